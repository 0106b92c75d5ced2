"""What the hand waits for: from the slider to the first picture, frames a second in a dream, and what a page of widgets weighs.

Aims, on two cores: 150 ms (p95) live, of which a local JupyterLab takes about 20 for the way there and back (50 where the server leaves
Nagle's algorithm on); 16 ms (p95) in a page; 20 predicted frames a second with a regressor, 5 with diffusion; 15 MB for twenty widgets.
The models are those that come with the package.
"""

import numpy as np
import pytest
from helpers import launched
from jupyter_lab import Lab, served

import wamlab
from wamlab.analysis import hands_on
from wamlab.presets import get_preset
from wamlab.world.camera import Camera
from wamlab.world.episode import Episode
from wamlab.world.simulation import SceneSpec, make_world
from wamlab_widgets import ActionScrubber, DriveView

PRESET = get_preset("quick")
TRAINED = {"steering_rad": (-1.0, 1.0), "accel_mps2": (-3.0, 2.0)}
MOVES = 60
PATIENCE_MS = 120_000

#: Notes how long each new picture comes after the slider's event that asked for it: milliseconds.
_WATCH = """() => {
  const slider = document.querySelector('.wrp-held'), canvas = document.querySelector('.wrp canvas');
  let began = 0;
  globalThis.taken = [];
  slider.addEventListener('input', () => { began ||= performance.now(); }, { capture: true });
  new MutationObserver(() => { if (began) globalThis.taken.push(performance.now() - began); began = 0; })
    .observe(canvas, { attributeFilter: ['data-actions'] });
}"""

#: What a notebook's cell says to scrub one model from the same start.
_CELL = """
import wamlab
from wamlab.analysis import hands_on
from wamlab.world.camera import Camera
from wamlab.world.episode import Episode
from wamlab.world.simulation import SceneSpec, make_world
from wamlab_widgets import ActionScrubber

quick = wamlab.load("dit-wam/{preset}")
rgb = Episode(make_world(SceneSpec(11, duration_s=60.0)), Camera()).reset().rgb[None]
context = hands_on.encoded(quick.codec, hands_on.square(rgb, quick.preset.resolution))[None]
rollout = {{"{name}": hands_on.asked(quick["{name}"], quick.codec, context)}}
present = hands_on.drawn(quick.codec, context, context[:, -1])[0]
ActionScrubber(rollout, present, horizon=quick.preset.horizon, speed_mps=8.0, trained={trained}, offline_kb=0)
"""


@pytest.fixture(scope="module")
def quick():
    return wamlab.load(f"dit-wam/{PRESET.name}")


@pytest.fixture(scope="module")
def start():
    """A drive of the embedded world that is in no dataset, and its first frame as the models see it."""
    episode = Episode(make_world(SceneSpec(11, duration_s=60.0)), Camera())
    return episode, hands_on.square(episode.reset().rgb[None], PRESET.resolution)


@pytest.fixture(scope="module")
def widget(quick, start):
    """Of two models; in a page it takes 600 kB of futures computed beforehand, which it computes once."""
    return scrubber(quick, start[1])


@pytest.fixture(scope="module")
def chromium():
    yield from launched()


def scrubber(quick, frames, names=("direct", "diffusion"), **settings):
    context = hands_on.encoded(quick.codec, frames)[None]
    rollouts = {name: hands_on.asked(quick[name], quick.codec, context) for name in names}
    present = np.moveaxis(hands_on.decode(quick.codec, context[:, -1])[0].numpy(), 0, -1)
    return ActionScrubber(rollouts, present, horizon=PRESET.horizon, speed_mps=8.0, trained=TRAINED, **settings)


def report(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")


@pytest.mark.parametrize("name", ["direct", "diffusion"])
def test_first_picture_of_the_kernel(benchmark, capsys, quick, start, name):
    """A preview of actions that were never asked before, until its bytes are ready to be sent."""
    widget, angles = scrubber(quick, start[1], [name], offline_kb=0), iter(np.linspace(-1, 1, 10_000))

    def ask():
        actions = [[next(angles), 0.0]] * PRESET.horizon
        return widget.answer({"kind": "rollout", "row": name, "actions": actions, "steps": widget.preview_steps})

    benchmark.pedantic(ask, rounds=MOVES, warmup_rounds=3)
    taken = np.array(benchmark.stats.stats.data) * 1000
    report(
        capsys,
        f"slider to first picture, kernel's part, {name}: p50 {np.median(taken):.0f} ms, p95 {np.quantile(taken, 0.95):.0f} ms",
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("jump", {}), ("jump-diffusion", {"steps": 4})], ids=["jump", "jump-diffusion"]
)
def test_frames_a_second_in_a_dream(benchmark, capsys, quick, start, name, settings):
    """Each step: predict, decode, encode as JPEG; without the true world beside it."""
    episode, frames = start
    dream = hands_on.Dream(quick[name], quick.codec, frames, episode.world.start.ego, 0.5, **settings)
    widget = DriveView({name: dream})
    benchmark.pedantic(lambda: widget.answer({"kind": "step", "action": [0.1, 0.0]}), rounds=MOVES, warmup_rounds=3)
    report(
        capsys,
        f"DriveView, {name} at {PRESET.resolution} px: {1 / benchmark.stats.stats.median:.0f} predicted frames/s",
    )


def drag(page, pause_ms=0):
    """Drag the wheel to and fro, as a hand does."""
    slider = page.locator(".wrp-held").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for turn in np.sin(np.linspace(0, 9, 4 * MOVES)):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.45 * turn), y)
        page.wait_for_timeout(pause_ms)
    page.mouse.up()


def told(taken):
    return f"p50 {np.median(taken):.1f} ms, p95 {np.quantile(taken, 0.95):.1f} ms, n = {len(taken)}"


def test_what_twenty_widgets_weigh(benchmark, capsys, widget):
    fragment = benchmark.pedantic(widget.static_html, rounds=1)
    state = len(fragment) - len(fragment.split("<!--/asset-->")[0])
    weight = (19 * state + len(fragment)) / 1e6
    report(capsys, f"twenty ActionScrubbers on one page, two models each: {weight:.1f} MB")
    assert weight <= 15


def test_first_picture_of_a_page(benchmark, capsys, widget, chromium, tmp_path):
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{widget.static_html()}")
    page = chromium.new_context(offline=True).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector('.wrp[data-state="ready"]')
    page.wait_for_timeout(1000)  # all futures are decoded
    page.evaluate(_WATCH)
    benchmark.pedantic(drag, args=(page,), rounds=1)
    taken = page.evaluate("taken")
    page.context.close()
    report(capsys, f"slider to picture in a page: {told(taken)}")


@pytest.mark.parametrize("name", ["direct", "diffusion"])
def test_first_picture_through_jupyterlab(benchmark, capsys, chromium, tmp_path, name):
    """Browser, server, kernel and back: from the slider's event to the painted preview."""
    with served(tmp_path) as url:
        lab = Lab(url, tmp_path, chromium)
        page = lab.open(_CELL.format(preset=PRESET.name, name=name, trained=TRAINED))
        page.set_default_timeout(PATIENCE_MS)
        page.wait_for_selector('.wrp[data-state="ready"]')
        page.evaluate(_WATCH)
        benchmark.pedantic(drag, args=(page, 16), rounds=1)
        page.wait_for_selector('.wrp[data-state="ready"]')
        taken = page.evaluate("taken")
        lab.close()
    report(capsys, f"slider to first picture in JupyterLab, {name}: {told(taken)}")
