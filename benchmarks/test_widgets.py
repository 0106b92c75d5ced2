"""What the hand waits for: from the slider to the first picture, frames a second in a dream, and what a page of widgets weighs.

Aims, on two cores: 150 ms (p95) live, of which a local JupyterLab takes about 20 for the way there and back (50 where the server leaves
Nagle's algorithm on); 16 ms (p95) in a page; 20 predicted frames a second with a regressor, 5 with diffusion; 15 MB for twenty widgets.
The models are those that come with the package.
"""

import os
import shutil

import numpy as np
import pytest

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

#: Notes, in a page, how long each new picture comes after the slider's event that asked for it: milliseconds.
_WATCH = """() => {
  const slider = document.querySelector('.wrp-held'), canvas = document.querySelectorAll('.wrp canvas')[1];
  let began = 0;
  globalThis.taken = [];
  slider.addEventListener('input', () => { began ||= performance.now(); }, { capture: true });
  new MutationObserver(() => { if (began) globalThis.taken.push(performance.now() - began); began = 0; })
    .observe(canvas, { attributeFilter: ['data-actions'] });
}"""


@pytest.fixture(scope="module")
def quick():
    return wamlab.load(f"dit-wam/{PRESET.name}")


@pytest.fixture(scope="module")
def start():
    """A drive of the embedded world that is in no dataset, and its first frame as the models see it."""
    episode = Episode(make_world(SceneSpec(11, duration_s=60.0)), Camera())
    return episode, hands_on.square(episode.reset().rgb[None], PRESET.resolution)


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


def test_what_twenty_widgets_weigh(benchmark, capsys, quick, start):
    widget = scrubber(quick, start[1])
    fragment = benchmark.pedantic(widget.static_html, rounds=1)
    state = len(fragment) - len(fragment.split("<!--/asset-->")[0])
    weight = (19 * state + len(fragment)) / 1e6
    report(capsys, f"twenty ActionScrubbers on one page, two models each: {weight:.1f} MB")
    assert weight <= 15


def test_first_picture_of_a_page(benchmark, capsys, quick, start, tmp_path):
    path = os.environ.get("WAMLAB_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("no Chromium: install Debian's `chromium`, or name another one in WAMLAB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{scrubber(quick, start[1]).static_html()}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_context(offline=True).new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector('.wrp[data-state="ready"]')
        page.wait_for_timeout(1000)
        page.evaluate(_WATCH)
        page.locator(".wrp-held").first.scroll_into_view_if_needed()
        box = page.locator(".wrp-held").first.bounding_box()
        y = box["y"] + box["height"] / 2

        def drag():
            page.mouse.move(box["x"] + box["width"] / 2, y)
            page.mouse.down()
            for turn in np.sin(np.linspace(0, 9, 4 * MOVES)):
                page.mouse.move(box["x"] + box["width"] * (0.5 + 0.45 * turn), y)
            page.mouse.up()

        benchmark.pedantic(drag, rounds=1)
        taken = page.evaluate("taken")
        chromium.close()
    report(
        capsys,
        f"slider to picture in a page: p50 {np.median(taken):.1f} ms, p95 {np.quantile(taken, 0.95):.1f} ms, n = {len(taken)}",
    )
