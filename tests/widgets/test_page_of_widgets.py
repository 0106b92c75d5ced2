"""Many widgets on one page: what they weigh together, and whether they leave each other alone."""

import numpy as np
import pytest
from notebook_files import executed, mime
from test_drive_view import Toy

from wamlab.notebooks.export import export
from wamlab.types import Scene
from wamlab_widgets import ActionScrubber, DriveView, FrontierExplorer, RolloutPlayer, SceneBrowser

SIDE, HORIZON = 128, 4
MOST_BYTES = 15e6


def streets(count, seed=0):
    """(count, SIDE, SIDE, 3) uint8, smooth with some grain: about as hard to compress as frames of the world."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (count, SIDE // 8, SIDE // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def steered(actions):
    return streets(len(actions), int(1000 * abs(actions).sum()))


def scene(i):
    actions = np.column_stack([np.zeros(8), np.zeros(8), np.full(8, 9.0)])
    times = np.arange(8) / 2
    return Scene(f"scene-{i:04}", "test", times, (), actions, np.zeros((8, 3)), {"time": "day"})


def of_each_kind():
    rows = {name: streets(HORIZON + 1, j) for j, name in enumerate(("truth", "direct", "diffusion", "jump"))}
    trained = {"steering_rad": (-0.6, 0.6), "accel_mps2": (-2.0, 2.0)}
    logged = np.zeros((HORIZON, 3))
    straight = {"straight on": np.zeros((12, 2))}
    points = [{"model": f"m{j}", "x": (j, j, j), "y": (j, j, j), "samples": streets(8, j)} for j in range(10)]
    return [
        ActionScrubber({"direct": steered, "jump": steered}, streets(1)[0], logged, truth=steered, trained=trained),
        RolloutPlayer([{"name": f"{i}", "rows": rows} for i in range(4)]),
        FrontierExplorer(points, streets(8, 99)),
        DriveView({"dream": Toy(size=(SIDE, SIDE))}, Toy(size=(SIDE, SIDE)), recorded=straight),
        SceneBrowser([scene(i) for i in range(40)], thumbnail=lambda s: streets(1, int(s.name[-2:]))[0]),
    ]


@pytest.mark.browser
def test_twenty_widgets_on_one_page_are_light_and_all_work(tmp_path, visit):
    widgets = of_each_kind()
    bundles = [widget._repr_mimebundle_()[0] for widget in widgets]
    outputs = [(f"widget {k}, {i}", [mime(b)]) for k in range(4) for i, b in enumerate(bundles)]
    path = export(executed(tmp_path / "x.ipynb", *outputs), tmp_path / "x.html").path
    text = path.read_text()
    assert len(text.encode()) <= MOST_BYTES
    for widget, bundle in zip(widgets, bundles, strict=True):
        assert 20 * len(bundle["text/html"]) <= MOST_BYTES  # were all twenty of this kind
        assert text.count(f'wamlab.register("{widget.asset}"') == 1  # its module stands in the page once
    seen = visit(path)
    page = seen.page
    page.wait_for_function("document.querySelectorAll('.wrp[data-state=ready]').length === 20", timeout=60_000)
    page.locator(".wrp-time").first.focus()
    page.keyboard.press("End")
    frames = page.eval_on_selector_all(".wrp[data-frame]", "ws => ws.map((w) => w.dataset.frame)")
    assert frames == [str(HORIZON)] + ["0"] * 11  # those of no group stay where they are
    assert seen.left_the_page == []
    assert seen.console == []
