import json

import plotly.graph_objects as go
import pytest
from notebook_files import display, executed, mime

from wamlab.notebooks import offline
from wamlab.notebooks.export import Page, export
from wamlab.notebooks.index import write_index
from wamlab.notebooks.show import ANSWER_MIME, Findings
from wamlab.runs import RunFolder
from wamlab.types import Finding

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&"\''


def plot(**layout):
    figure = go.Figure(go.Scatter(x=[0, 1, 2], y=[1, 3, 2], mode="lines", line={"color": "#2a86d1"}))
    figure.update_layout(**layout)
    return mime({"application/vnd.plotly.v1+json": json.loads(figure.to_json())})


def run_folder(path, **config):
    run = RunFolder(path)
    run.write(
        "config", {"notebook": "01_x.ipynb", "parameters": {"name": HOSTILE}, "help": {"name": HOSTILE}, **config}
    )
    run.write("environment", {"git": {"commit": HOSTILE, "dirty": True}, "python": "3", "gpu": [HOSTILE]})
    run.write("status", {"status": "failed", "message": HOSTILE, "time": "2026-01-01T00:00:00+00:00"})
    return run


def test_question_answer_and_picture_come_first(tmp_path):
    notebook = executed(
        tmp_path / "01_x.ipynb",
        ("md:# How far?\n\nA lead.", []),
        ("# Measure\nmeasure()", [mime({ANSWER_MIME: {"text": "**Five** metres."}})]),
        ("# Draw\ndraw()", [plot(title={"text": "Distance", "subtitle": {"text": "n = 3"}})]),
        ("md:Then $x^2$ and $$\\frac{a}{b}$$", []),
    )
    page = export(notebook, tmp_path / "x.html")
    text = page.path.read_text()
    order = [
        "<h1>How far?</h1>",
        "A lead.",
        "<strong>Five</strong> metres.",
        "data-plot",
        "<summary><span>Code</span> Draw",
        "<math",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.count("<math") == 2
    assert page.question == "How far?"
    assert page.thumbnail.startswith("<svg")
    assert "#2a86d1" in page.thumbnail


def test_links_between_notebooks_are_links_between_their_pages(tmp_path):
    links = "md:[On](02_y.ipynb), [out](https://example.org/a.ipynb), [down](#there)"
    notebook = executed(tmp_path / "01_x.ipynb", ("md:# How far?", []), (links, []))
    among = export(notebook, tmp_path / "among.html", index="index.html").path.read_text()
    assert '<a href="02_y.html">On</a>' in among
    alone = export(notebook, tmp_path / "alone.html").path.read_text()
    assert "On, <a" in alone and "02_y" not in alone
    for text in (among, alone):
        assert '<a href="https://example.org/a.ipynb">out</a>' in text and '<a href="#there">down</a>' in text


def test_hostile_text_stays_text(tmp_path):
    notebook = executed(
        tmp_path / "01_x.ipynb",
        (f"# {HOSTILE}", [{"output_type": "stream", "name": "stdout", "text": HOSTILE}]),
        ("x", [{"output_type": "error", "ename": HOSTILE, "evalue": HOSTILE, "traceback": [HOSTILE]}]),
        ("x", [display(text_plain=HOSTILE), plot(title=HOSTILE, xaxis={"title": HOSTILE})]),
        (
            "x",
            [
                mime(
                    Findings([Finding(HOSTILE, HOSTILE, 1, (0, 1), HOSTILE, "reproduced", HOSTILE)])._repr_mimebundle_()
                )
            ],
        ),
    )
    page = export(notebook, tmp_path / "x.html", run_folder(tmp_path))
    index = write_index([page], tmp_path / "index.html")
    for text in (page.path.read_text(), index.read_text()):
        assert "<script>alert" not in text
        assert "<img src=x" not in text


def test_progress_bars_keep_their_last_state(tmp_path):
    bar = {"output_type": "stream", "name": "stderr", "text": "10%\r50%\r100%\ndone\n"}
    text = export(executed(tmp_path / "x.ipynb", ("go()", [bar])), tmp_path / "x.html").path.read_text()
    assert "100%\ndone" in text
    assert "50%" not in text


def test_the_same_notebook_gives_the_same_page(tmp_path):
    notebook = executed(tmp_path / "x.ipynb", ("md:# Q", []), ("draw()", [plot()]))
    pages = [export(notebook, tmp_path / f"{i}.html").path.read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "fragment",
    [
        '<img src="https://a.example/x.png">',
        '<img src="figure.png">',
        "<img srcset='//a.example/x.png 2x'>",
        '<script src="https://a.example/x.js"></script>',
        '<link rel="stylesheet" href="https://a.example/x.css">',
        '<div style="background: url(https://a.example/x.png)"></div>',
        "<style>@import 'https://a.example/x.css';</style>",
        "<script>fetch('https://a.example/x')</script>",
        "<script>import('https://a.example/x.js')</script>",
        '<iframe src="https://a.example"></iframe>',
        '<svg><image href="https://a.example/x.png"/></svg>',
        '<meta http-equiv="refresh" content="0;url=https://a.example">',
    ],
)
def test_a_page_that_would_load_something_is_refused(tmp_path, fragment):
    notebook = executed(tmp_path / "x.ipynb", ("x", [display(text_html=fragment)]))
    with pytest.raises(offline.ExternalReference, match="x"):
        export(notebook, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_links_and_mentions_are_no_loading(tmp_path):
    fragment = '<a href="https://a.example">https://a.example</a><script>const url = "https://a.example";</script>'
    export(executed(tmp_path / "x.ipynb", ("x", [display(text_html=fragment)])), tmp_path / "x.html")


def test_plotly_maps_are_refused(tmp_path):
    offline.plotly_figure({"data": [{"type": "heatmap"}], "layout": {}})
    figure = {"data": [{"type": "scattergeo"}], "layout": {}}
    with pytest.raises(offline.ExternalReference, match="scattergeo"):
        export(
            executed(tmp_path / "x.ipynb", ("x", [mime({"application/vnd.plotly.v1+json": figure})])),
            tmp_path / "x.html",
        )


def test_empty_states(tmp_path):
    assert "no cells" in export(executed(tmp_path / "x.ipynb"), tmp_path / "x.html").path.read_text()
    assert "No pages yet" in write_index([], tmp_path / "index.html").read_text()
    assert isinstance(export(executed(tmp_path / "x.ipynb"), tmp_path / "x.html"), Page)


@pytest.mark.browser
def test_a_page_works_offline(tmp_path, visit):
    notebook = executed(tmp_path / "x.ipynb", ("md:# How far?", []), ("draw()", [plot(), plot()]))
    page = export(notebook, tmp_path / "x.html", run_folder(tmp_path), index="index.html").path
    seen = visit(page, color_scheme="light")
    seen.page.wait_for_selector("[data-plot='1'] .main-svg")
    ink = "getComputedStyle(document.querySelector('.xtick text')).fill"
    light = seen.page.evaluate(ink)
    seen.page.click("#theme")
    seen.page.wait_for_function(f"{ink} !== {json.dumps(light)}")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_a_page_fits_a_phone(tmp_path, visit):
    notebook = executed(
        tmp_path / "x.ipynb", ("md:# How far?", []), ("draw()", [plot()]), ("x", [display(text_plain="x" * 300)])
    )
    seen = visit(export(notebook, tmp_path / "x.html", run_folder(tmp_path)).path, width=390)
    seen.page.wait_for_selector(".main-svg")
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
