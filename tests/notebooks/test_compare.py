import nbformat
import pytest
from notebook_files import display, executed
from test_report_index import HOSTILE, finding, make_run

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.notebooks.compare import compare, find_run
from wamlab.notebooks.show import METRICS_MIME, Metrics, number

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WIDGET = '<!--asset:player--><style>.p { color: red }</style><!--/asset--><div class="p">a player</div>'


@pytest.fixture
def two(project):
    first = make_run("05_v", seed=0, preset="quick", findings=[finding("reproduced"), finding("inconclusive", HOSTILE)])
    second = make_run("05_v", seed=1, preset="quick", extra=HOSTILE, findings=[finding("not reproduced")])
    first.write("metrics", {"rmse": [0.5, 0.25, 0.75], HOSTILE: None})
    second.write("metrics", {"rmse": 0.125})
    for run in (first, second):
        executed(run.notebook, (f"# {HOSTILE}", [display(text_html=WIDGET), display(image_png=PIXEL)]))
    return first, second


@pytest.mark.browser
def test_what_differs_stands_side_by_side(two, visit):
    page = compare([str(run.path) for run in two])
    text = page.path.read_text()
    seen = visit(page.path, width=390)
    rows = seen.page.evaluate("[...document.querySelectorAll('.compared tr')].map(r => r.innerText.split('\\t'))")
    assert ["seed", "0", "1"] in rows
    assert ["extra", "–", HOSTILE] in rows
    assert not any(row[0] == "preset" for row in rows)
    assert "The same in all: preset quick." in seen.page.inner_text("main")
    assert ["rmse", "0.5 [0.25, 0.75]", "0.125"] in rows
    assert [HOSTILE, "n/a", "–"] in rows
    assert ["a claim", "1 [0.5, 1.5] m\nreproduced", "1 [0.5, 1.5] m\nnot reproduced"] in rows
    assert text.count("<!--asset:player-->") == 1
    assert text.count('<div class="p">a player</div>') == 2
    assert seen.page.locator(".beside").count() == 2
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert seen.console == []
    assert seen.left_the_page == []


def test_the_same_runs_give_the_same_page(two):
    names = [str(run.path) for run in two]
    first, again = compare(names).path.read_bytes(), compare(names).path.read_bytes()
    assert first == again


def test_runs_are_found_by_folder_notebook_and_start(two, project):
    nbformat.write(nbformat.v4.new_notebook(), project / "notebooks" / "05_v.ipynb")
    first, second = two
    assert find_run("05").path in (first.path, second.path)
    assert find_run("05_v").path == find_run("05").path
    assert find_run(f"05_v/{second.path.name}").path == second.path
    with pytest.raises(UnknownName, match=f"unknown run '05/1999'; known: .*{first.path.name}"):
        find_run("05/1999")
    with pytest.raises(InvalidParameter, match="takes 2..26 runs, not 1"):
        compare(["05"])


def test_runs_that_left_nothing(project):
    names = [str(make_run("01_a", status="failed").path) for _ in range(2)]
    text = compare(names).path.read_text()
    assert "None of these runs left metrics." in text
    assert "None of these runs left findings." in text


def test_metrics_with_their_intervals():
    made = Metrics({"a": (1.0, float("nan"), 2.0), "b": -3, "c": float("inf")})._repr_mimebundle_()
    assert made[METRICS_MIME] == {"a": [1.0, None, 2.0], "b": -3.0, "c": None}
    assert made["text/plain"] == "a: 1 [n/a, 2]\nb: −3\nc: n/a"
    assert number(None) == "n/a"
