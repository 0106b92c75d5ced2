"""Whatever stands in a name or a value, no page of any kind runs it, and the same run gives the same bytes."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from notebook_files import display, executed, mime, without_times, write
from test_report_index import finding, make_run

from wamlab import runs
from wamlab.notebooks.compare import compare
from wamlab.notebooks.execute import run_notebook
from wamlab.notebooks.export import export
from wamlab.notebooks.index import write_index
from wamlab.notebooks.show import Answer, Findings, Metrics
from wamlab.notebooks.sweep import sweep
from wamlab.types import Finding
from wamlab_widgets import RolloutPlayer

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror=\"alert(1)\"><svg onload='alert(2)'>"
    '<!-- <script> ]]> {{ 7 * 7 }} "\'><a href="javascript:alert(3)">x</a> [y](javascript:alert(4))'
)


def opened(visit, path):
    """A page that has been opened, its folds too, and what it did meanwhile."""
    seen = visit(path)
    seen.page.on("dialog", lambda d: seen.console.append(f"dialog {d.message}") or d.dismiss())
    seen.page.reload()
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    seen.page.wait_for_timeout(500)
    assert seen.page.evaluate("typeof window.hacked") == "undefined"
    assert seen.page.evaluate("document.querySelectorAll('img[src=x], svg[onload], [href^=javascript]').length") == 0
    assert seen.console == []
    assert [url for url in seen.left_the_page if not url.startswith("file:")] == []
    return seen.page


def everything_hostile(run):
    figure = go.Figure(go.Bar(x=[HOSTILE], y=[1], name=HOSTILE, text=[HOSTILE]))
    figure.update_layout(title=HOSTILE, xaxis_title=HOSTILE, showlegend=True)
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    player = RolloutPlayer(
        [{"name": HOSTILE, "rows": {"truth": frames, HOSTILE: frames}, "errors": {HOSTILE: np.zeros(3)}}],
        styles={HOSTILE: {"label": HOSTILE, "color": HOSTILE}},
        metric=HOSTILE,
    )
    bundle = player._repr_mimebundle_()
    static = bundle[0] if isinstance(bundle, tuple) else bundle
    outputs = [
        mime(Answer(f"The worst is {HOSTILE} $\\x<script>$")._repr_mimebundle_()),
        mime(Metrics({HOSTILE: 1.0})._repr_mimebundle_()),
        mime(Findings([Finding(HOSTILE, HOSTILE, 1, (0, 1), HOSTILE, HOSTILE, HOSTILE)])._repr_mimebundle_()),
        mime({"application/vnd.plotly.v1+json": json.loads(figure.to_json())}),
        mime({"text/html": static["text/html"]}),
        display(text_markdown=HOSTILE),
        {"output_type": "stream", "name": "stdout", "text": HOSTILE},
        {"output_type": "error", "ename": HOSTILE, "evalue": HOSTILE, "traceback": [HOSTILE]},
    ]
    executed(run.notebook, ("md:# What of it?", []), (f"# {HOSTILE}", outputs))
    run.write("metrics", {HOSTILE: 1.0})


@pytest.mark.browser
def test_nothing_hostile_runs_on_any_page(project, visit):
    found = [
        make_run("01_a", dataset=HOSTILE, preset=HOSTILE, name=HOSTILE, findings=[finding(HOSTILE, HOSTILE)])
        for _ in range(2)
    ]
    for run in found:
        everything_hostile(run)
        run.set_status("failed", message=HOSTILE)
    page = export(found[0].notebook, project / "reports" / "01_a.html", found[0], "index.html")
    shown = opened(visit, page.path)
    assert shown.locator(".answer").inner_text().startswith("The worst is </script>")
    assert HOSTILE.split("{{")[0] in shown.locator("pre.log").inner_text()
    opened(visit, write_index([page], project / "reports" / "index.html", found))
    compared = opened(visit, compare([str(run.path) for run in found]).path)
    assert compared.locator(".beside > figure").count() == 2


@pytest.mark.browser
def test_nothing_hostile_runs_on_the_page_of_a_sweep(project, visit):
    cell = "from wamlab.notebooks.show import Metrics\nMetrics({name: 1.0})"
    write(project / "notebooks" / "01_a.ipynb", "md:# What of it?", cell)
    assert sweep("01", {"name": [HOSTILE]}, {})
    (page,) = (project / "reports").glob("*.html")
    shown = opened(visit, page)
    assert shown.locator("tbody td").first.inner_text() == HOSTILE
    (run,) = runs.every()
    assert run.read("metrics") == {HOSTILE: 1.0}


def test_a_run_repeated_gives_the_same_metrics_and_page(project):
    """Byte for byte, the page but for its times and how long it took."""
    cell = (
        "import numpy as np\nfrom wamlab.notebooks.show import Metrics\nrng = np.random.default_rng(count)\n"
        "Metrics({f'm{i}': (v, v - 1, float('nan')) for i, v in enumerate(rng.normal(size=20))})"
    )
    path = write(project / "notebooks" / "01_a.ipynb", "md:# What of it?", cell)
    first, second = (run_notebook(path, {"count": 7}).run for _ in range(2))
    assert first.path != second.path
    assert (first.path / "metrics.json").read_bytes() == (second.path / "metrics.json").read_bytes()
    pages = [export(run.notebook, project / f"{i}.html", run).path.read_text() for i, run in enumerate((first, second))]
    for run in (first, second):
        again = [export(run.notebook, project / "x.html", run).path.read_bytes() for _ in range(2)]
        assert again[0] == again[1]
    assert without_times(pages[0]) == without_times(pages[1])
    different = run_notebook(path, {"count": 8}).run
    assert (first.path / "metrics.json").read_bytes() != (different.path / "metrics.json").read_bytes()
