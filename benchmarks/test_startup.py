"""What a user waits for before anything happens: `import wamlab` and `wamlab --help` (aim: under half a second)."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code", ["import wamlab", "from wamlab.cli import main", "import wamlab_widgets"], ids=["wamlab", "cli", "widgets"]
)
def test_import_time(benchmark, code):
    benchmark.pedantic(subprocess.run, args=([sys.executable, "-c", code],), kwargs={"check": True}, rounds=5)


def test_help_time(benchmark):
    command = [sys.executable, "-m", "wamlab.cli", "--help"]
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True, "stdout": subprocess.DEVNULL}, rounds=5)
    assert benchmark.stats.stats.median < 0.5
