"""Tables of a run: all their values as CSV, and as Parquet with their types, where pyarrow is."""

import io

import pandas as pd
import pytest
from notebook_files import write

from wamlab.notebooks.execute import run_notebook
from wamlab.notebooks.show import parquet
from wamlab.notebooks.sweep import sweep

TYPED = """# Tabulate it
import pandas as pd
frame = pd.DataFrame({
    "model": ["direct", "0012"], "n": [1, 2], "rmse": [0.1 + 0.2, float("nan")], "valid": [True, False],
    "when": pd.to_datetime(["2026-01-02", "2026-03-04"]), "kind": pd.Categorical(["a", "b"]),
})
frame.to_pickle("frame.pkl")
display(frame, frame.set_index(["model", "n"])[["rmse"]], pd.DataFrame({3: [1.5]}), pd.DataFrame({"mixed": [1, "x"]}))"""


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow", reason="the `parquet` extra is not installed", exc_type=ImportError)


def test_tables_come_back_with_their_types(project, pyarrow):
    run = run_notebook(write(project / "01_a.ipynb", TYPED), {}).run
    kept = {path.name: path for path in (run.path / "tables").iterdir()}
    pair = {f"0{i}-tabulate-it.{ending}" for i in (1, 2, 3) for ending in ("csv", "parquet")}
    assert set(kept) == pair | {"04-tabulate-it.csv"}, "Parquet holds no column that mixes types; CSV does"
    made = pd.read_pickle(project / "frame.pkl")
    pd.testing.assert_frame_equal(pd.read_parquet(kept["01-tabulate-it.parquet"]), made)
    again = pd.read_parquet(kept["02-tabulate-it.parquet"])
    pd.testing.assert_frame_equal(again, made[["model", "n", "rmse"]])
    assert pd.read_parquet(kept["03-tabulate-it.parquet"])["3"].tolist() == [1.5]
    assert pd.read_csv(kept["01-tabulate-it.csv"]).model.tolist() == ["direct", "0012"]


def test_a_sweeps_table_comes_back(project, pyarrow):
    cell = "from wamlab.notebooks.show import Metrics\nMetrics({'product': count * scale})"
    write(project / "notebooks" / "01_a.ipynb", cell)
    assert sweep("01", {"name": ["007", "b"]}, {"count": 3})
    (path,) = (project / "reports").glob("*.parquet")
    table = pd.read_parquet(path)
    assert table.name.tolist() == ["007", "b"]
    assert table.value.tolist() == [4.5, 4.5]
    pd.testing.assert_frame_equal(
        table.drop(columns="name"), pd.read_csv(path.with_suffix(".csv")).drop(columns="name"), check_dtype=False
    )


def test_the_same_table_gives_the_same_bytes(pyarrow):
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.5, 2.5]})
    assert parquet(frame) == parquet(frame.copy())
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(parquet(frame))), frame)


def test_without_the_extra_there_is_csv_alone(project, monkeypatch):
    """A module that is None cannot be imported: as where pyarrow is not, or is too new for this NumPy."""
    hidden = (
        "import sys\nfor name in [n for n in sys.modules if n.split('.')[0] == 'pyarrow']:\n    del sys.modules[name]\n"
    )
    run = run_notebook(write(project / "a.ipynb", hidden + "sys.modules['pyarrow'] = None\n" + TYPED), {}).run
    assert {path.suffix for path in (run.path / "tables").iterdir()} == {".csv"}
