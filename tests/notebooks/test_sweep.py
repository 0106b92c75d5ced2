import pandas as pd
import pytest
from notebook_files import write

from wamlab import runs
from wamlab.errors import InvalidParameter
from wamlab.notebooks.sweep import sweep
from wamlab.plots.sweeps import metric_over_grid

GRID = """from wamlab.notebooks.show import Metrics
assert count != 13, "unlucky"
open("ran.txt", "a").write(f"{count} {scale}\\n")
Metrics({"product": count * scale, "sum": (count + scale, 0.0, 100.0)})"""


def read(project, pattern="*.csv"):
    (path,) = (project / "reports").glob(pattern)
    return pd.read_csv(path)


@pytest.mark.browser
def test_a_grid_is_one_table_and_one_page_and_goes_on(project, visit):
    write(project / "notebooks" / "01_a.ipynb", "md:# What is the product?", GRID)
    over = {"count": ["1", "13"], "scale": ["0.5", "2"]}
    assert not sweep("01", over, {"name": "x"}, workers=2)
    table = read(project)
    done = table[table.status == "completed"]
    assert done.metric.tolist() == ["product", "sum"] * 2
    assert done.scale.tolist() == [0.5, 0.5, 2.0, 2.0]
    assert done.value.tolist() == [0.5, 1.5, 2.0, 3.0]
    assert done.high.dropna().tolist() == [100.0, 100.0]
    assert table[table.status == "failed"].metric.isna().tolist() == [True, True]
    assert len(table.run.unique()) == 4
    assert len((project / "ran.txt").read_text().splitlines()) == 2

    assert sweep("01", {"count": ["1", "3"], "scale": ["0.5", "2"]}, {"name": "x"})
    assert len((project / "ran.txt").read_text().splitlines()) == 4, "points that completed are not run again"
    (page,) = (p for p in (project / "reports").glob("*.html") if "unlucky" in p.read_text())
    seen = visit(page)
    seen.page.wait_for_selector("[data-plot='1'] .main-svg")
    assert seen.page.locator("tbody tr").count() == 4
    assert "AssertionError: unlucky" in seen.page.inner_text("table")
    assert seen.console == []
    assert seen.left_the_page == []


test_a_grid_is_one_table_and_one_page_and_goes_on = pytest.mark.browser(
    test_a_grid_is_one_table_and_one_page_and_goes_on
)


@pytest.mark.parametrize(
    ("over", "given", "says"),
    [
        ({}, {}, "sweep needs --over"),
        ({"count": []}, {}, "each with values"),
        ({"count": ["1"]}, {"count": "1"}, r"not \['count'\]"),
        ({"count": ["1", "01"]}, {}, "given twice"),
        ({"count": ["1", "x"]}, {}, "must be int"),
        ({"cuont": ["1"]}, {}, "no parameter 'cuont'"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(project, over, given, says):
    write(project / "notebooks" / "01_a.ipynb", GRID)
    with pytest.raises(InvalidParameter, match=says):
        sweep("01", over, given)
    assert list(runs.every()) == []


def test_lines_run_through_the_means_over_seeds():
    table = pd.DataFrame(
        [(g, s, m, g * 10 + s, None, None) for m in ("a", "b") for g in (1, 2) for s in (0, 1)],
        columns=["guidance", "seed", "model", "value", "low", "high"],
    )
    figure = metric_over_grid(table, ["seed", "guidance", "model"], "rmse")
    lines = [t for t in figure.data if t.mode == "lines"]
    assert [t.name for t in lines] == ["model a", "model b"]
    assert list(lines[0].x) == [1, 2]
    assert list(lines[0].y) == [10.5, 20.5]
    assert figure.layout.xaxis.title.text == "guidance"
