"""Training curves show what the log says, and in a cell they are one display that changes."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from notebook_files import write

from wamlab.plots.style import MODEL_STYLE
from wamlab.plots.training import LiveCurves, training_curves
from wamlab.training import read_log
from wamlab.training.log import Log


def made(folder: Path, scale: float = 1.0) -> Path:
    log = Log(folder, 0)
    for step in (1, 2, 3, 4):
        log.write(step, 0.1 * step, {"loss": scale / step, "lr": 1e-3 * step})
        if step % 2 == 0:
            log.write(step, 0.1 * step, {"val_loss": 2 * scale / step})
    log.close()
    return folder


def test_curves_are_the_rows_of_the_log(tmp_path):
    figure = training_curves([("direct", read_log(made(tmp_path / "a")))])
    loss, val, rate = figure.data
    assert list(loss.x) == [1, 2, 3, 4] and list(loss.y) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert list(val.x) == [2, 4] and list(val.y) == [1, 0.5] and val.line.color == MODEL_STYLE["direct"].color
    assert list(rate.y) == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3]) and rate.xaxis == "x2"
    assert figure.layout.yaxis.type == "log"


def test_seeds_share_a_colour_and_a_place_in_the_legend(tmp_path):
    table = read_log(made(tmp_path))
    names = ["jump", "jump", "no anchor", "one token", "no anchor"]
    thick = training_curves([(name, table) for name in names]).data[1::3]
    assert [t.name for t in thick if t.showlegend] == [MODEL_STYLE["jump"].label, "no anchor", "one token"]
    colors = [t.line.color for t in thick]
    assert colors[0] == colors[1] and colors[2] == colors[4] and len(set(colors)) == 3


def test_a_run_that_has_written_nothing_is_no_mistake(tmp_path):
    assert [len(t.x) for t in training_curves([("direct", read_log(tmp_path))]).data] == [0, 0, 0]


@pytest.fixture
def displayed(monkeypatch):
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(("update", bundle))

    def display(bundle, raw, display_id):
        shown.append(("display", bundle))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return shown


def test_the_cell_is_drawn_at_most_so_often_and_once_more_at_the_end(tmp_path, displayed):
    with LiveCurves(every_s=3600) as live:
        for name in ("direct-1", "diffusion-2"):
            for _ in range(5):
                live(made(tmp_path / name))
    assert [kind for kind, _ in displayed] == ["display", "update"]
    names = [trace["name"] for trace in displayed[-1][1]["application/vnd.plotly.v1+json"]["data"]]
    assert set(names) == {"direct", "diffusion"}, "the second run came after the first drawing"


def test_what_was_trained_is_drawn_though_a_run_fails(tmp_path, displayed):
    with pytest.raises(KeyboardInterrupt), LiveCurves(every_s=3600) as live:
        live(made(tmp_path / "jump-1"), "no anchor")
        raise KeyboardInterrupt
    assert displayed[-1][1]["text/plain"] == "training curves of no anchor"


def test_a_notebook_keeps_one_figure_and_its_last_state(tmp_path):
    """In a real kernel, executed as the runner does."""
    import nbformat
    from nbclient import NotebookClient

    made(tmp_path / "direct-1")
    path = write(
        tmp_path / "live.ipynb",
        f"""
        from pathlib import Path
        from wamlab.plots.training import LiveCurves
        from wamlab.training.log import Log
        with LiveCurves(every_s=0) as live:
            print("before")
            log = Log(Path({str(tmp_path)!r}) / "direct-1", 4)
            for step in (5, 6):
                log.write(step, 1.0, {{"loss": 0.1, "lr": 0.0}})
                live(Path({str(tmp_path)!r}) / "direct-1")
            print("after")
        """,
    )
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300).execute()
    outputs = notebook.cells[-1].outputs
    assert [o.output_type for o in outputs] == ["stream", "display_data", "stream"]
    trained = outputs[1].data["application/vnd.plotly.v1+json"]["data"][0]["x"]
    assert np.frombuffer(base64.b64decode(trained["bdata"]), trained["dtype"]).tolist() == [1, 2, 3, 4, 5, 6]
