# Needs Python 3.11+, make and the package index; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev
export PYTHONUNBUFFERED := 1
export OMP_WAIT_POLICY := passive

.PHONY: report test lab bench lint clean
.DEFAULT_GOAL := report

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wamlab needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip  # three times as fast as an old one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

report: $(STAMP)  ## make the embedded dataset, run every notebook headless, write reports/index.html
	$(BIN)/wamlab data synth
	$(BIN)/wamlab report

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lab: $(STAMP)  ## open JupyterLab on the notebooks
	$(BIN)/wamlab lab

bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks --benchmark-only -p no:xdist

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## everything the commands made, but not the datasets that you put into data/
	rm -rf $(VENV) runs reports data/synthetic data/latents data/rollouts data/index .pytest_cache .ruff_cache
