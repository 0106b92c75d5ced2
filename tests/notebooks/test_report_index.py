import re

import pytest
from notebook_files import display, executed

from wamlab import runs
from wamlab.notebooks.export import export
from wamlab.notebooks.index import entry, read_findings, write_index

HOSTILE = "\"><script>alert(1)</script>|'"


def finding(verdict, claim="a claim"):
    return {
        "claim": claim,
        "paper": "p",
        "measured": 1.0,
        "interval": [0.5, 1.5],
        "unit": "m",
        "verdict": verdict,
        "measured_on": "here",
    }


def make_run(notebook, status="completed", findings=(), **parameters):
    config = {"notebook": f"{notebook}.ipynb", "question": f"What of {notebook}?", "parameters": parameters}
    run = runs.start(notebook, config, f"{len(list(runs.every())):032d}")
    run.set_status(status, message="why" * (status != "completed"))
    if findings:
        run.write("findings", list(findings))
    executed(run.notebook, (f"md:# What of {notebook}?", []), ("x", [display(text_plain="1")]))
    return run


@pytest.fixture
def history(project):
    return [
        make_run(
            "01_a", dataset="synthetic", preset="quick", findings=[finding("reproduced"), finding("inconclusive")]
        ),
        make_run("01_a", dataset="nuscenes", preset="paper", findings=[finding("not reproduced", HOSTILE)]),
        make_run("02_b", dataset=HOSTILE, preset="quick"),
        make_run("02_b", "failed", dataset="synthetic", preset="smoke"),
    ]


def test_every_run_is_listed_with_its_question_and_findings(project, history):
    export(history[1].notebook, history[1].path / "page.html", history[1])
    page = export(history[0].notebook, project / "reports" / "01_a.html", history[0], "index.html")
    text = write_index([page], project / "reports" / "index.html", history).read_text()
    assert text.count("<h3>") == 4
    assert text.count("What of 02_b?") == 2
    assert f'href="../runs/01_a/{history[1].path.name}/page.html"' in text
    assert '<h3><a href="01_a.html">' in text
    assert "why" in text
    assert "1 inconclusive" in text
    assert "1 reproduced" in text
    assert "<script>alert" not in text


def test_damaged_files_of_a_run_spoil_nothing(project, history):
    (history[0].path / "findings.json").write_text('[{"claim": 1}]')
    (history[1].path / "findings.json").write_text("{")
    (history[2].path / "status.json").unlink()
    assert read_findings(history[0]) == ()
    assert entry(history[1]).verdicts == {}
    assert "unknown" in write_index([], project / "reports" / "index.html", history).read_text()


@pytest.mark.browser
def test_filters_show_what_fits(project, history, visit):
    page = export(history[0].notebook, project / "reports" / "01_a.html", history[0], "index.html")
    index = write_index([page], project / "reports" / "index.html", history)
    seen = visit(index)
    shown = "[...document.querySelectorAll('.runs > li')].map(e => e.hidden ? 0 : 1).join('')"
    assert seen.page.evaluate(shown) == "1111"
    for name, value, expected in [
        ("notebook", "02_b", "0011"),
        ("notebook", "", "1111"),
        ("verdict", "not reproduced", "0100"),
        ("preset", "quick", "0000"),
        ("verdict", "reproduced", "1000"),
    ]:
        seen.page.select_option(f"select[name={name}]", value)
        assert seen.page.evaluate(shown) == expected, (name, value)
        assert seen.page.is_visible("#nothing") == ("1" not in expected)
    assert seen.page.is_visible(".card")
    assert seen.console == []
    assert seen.left_the_page == []


@pytest.mark.browser
def test_the_index_fits_a_phone(project, history, visit):
    page = export(history[0].notebook, project / "reports" / "01_a.html", history[0], "index.html")
    seen = visit(write_index([page], project / "reports" / "index.html", history), width=390)
    seen.page.click(".card .found summary")
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert re.search("a claim", seen.page.inner_text(".card"))
