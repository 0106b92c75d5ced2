import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from browsing import live, page_with
from PIL import Image

from wamlab.errors import EpisodeEnded, InvalidAction, InvalidParameter, InvalidShape
from wamlab.world.camera import Camera
from wamlab.world.episode import Episode
from wamlab.world.simulation import SceneSpec, make_world
from wamlab_widgets import DriveView

SIZE = (24, 32)
TRAINED = {"steering_rad": (-0.6, 0.6), "accel_mps2": (-2.0, 2.0)}


class Toy:
    """A bar that the wheel moves, on a ground that `fade` darkens with every step; it ends after `last` steps."""

    def __init__(self, fade=0, last=99, size=SIZE):
        self.fade, self.last, self.size = fade, last, size

    def reset(self):
        self.steps, self.at, self.speed, self.turned = 0, 0.0, 5.0, 0.0
        return self._seen()

    def step(self, action):
        if self.steps >= self.last:
            raise EpisodeEnded("the episode ended (goal)")
        self.steps += 1
        self.at += action[0]
        self.turned += 0.2 * action[0]
        self.speed = max(0.0, self.speed + action[1] / 2)
        return self._seen()

    def _seen(self):
        rgb = np.full((3, *self.size), max(0, 120 - self.fade * self.steps), np.uint8)
        at = int(np.clip(16 - 6 * self.at, 2, 29))
        rgb[:, :, at - 2 : at + 2] = 240
        return SimpleNamespace(rgb=rgb, pose=(self.steps * 2.5, self.at, self.turned), speed_mps=self.speed)


class Failing(Toy):
    """Dreams of a road that its weights do not know, from the third step on."""

    def step(self, action):
        seen = super().step(action)
        if self.steps == 2:
            seen.rgb = np.full((3, *SIZE), np.nan)
        if self.steps > 2:
            raise RuntimeError("no road in my weights")
        return seen


def view(models=None, **changes):
    return DriveView(models or {"direct": Toy(fade=5)}, **({"truth": Toy(), "trained": TRAINED} | changes))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"fsp": 3}, InvalidParameter, "no argument 'fsp'; known: .*fps"),
        ({"models": {"truth": Toy()}}, InvalidParameter, "no model may be called 'truth'"),
        ({"models": {"m": len}}, InvalidParameter, r"'m' must have reset\(\) and step\(action\)"),
        ({"models": {"m": Toy(size=(8, 8))}}, InvalidShape, r"'m' gave frames \(8, 8, 3\).*\(24, 32, 3\)"),
        ({"recorded": {"x": [[np.nan, 0]]}}, InvalidAction, "row 0"),
        ({"quality": 101}, InvalidParameter, "quality"),
    ],
)
def test_wrong_data_is_named(changes, error, says):
    with pytest.raises(error, match=says):
        view(**changes)


def test_help_explains_every_trait_and_argument(capsys):
    DriveView.help()
    text = capsys.readouterr().out
    assert all(name in text for name in (*DriveView.trait_help(), "models", "truth", "recorded", "gamepad"))


def test_every_world_gets_the_same_actions_and_divergence_is_measured():
    widget = view()
    for _ in range(4):
        widget.step([0.3, -1.0])
    truth, direct = (widget.driven.rows[r] for r in ("truth", "direct"))
    assert truth["pose"] == direct["pose"]
    assert truth["speed"] == [5.0, 4.5, 4.0, 3.5, 3.0]
    assert truth["error"] == [None] * 5
    assert direct["error"][0] == 0
    assert all(a < b for a, b in zip(direct["error"], direct["error"][1:], strict=False))
    share = 1 - 4 / 32  # of the picture, that the bar does not cover
    assert direct["error"][4] == pytest.approx(20 * share**0.5, abs=0.06)


def test_a_drive_driven_again_is_the_same():
    widget = view()
    actions = np.column_stack([np.linspace(-0.4, 0.4, 6), np.zeros(6)])
    first, second = widget.record("a", actions), widget.record("b", actions)
    assert first is not second
    assert first.rows["direct"]["error"] == second.rows["direct"]["error"]
    np.testing.assert_array_equal(first.rows["truth"]["frames"], second.rows["truth"]["frames"])


def test_a_world_that_ends_or_fails_leaves_the_others_driving():
    widget = view({"failing": Failing(), "short": Toy(last=1)})
    for _ in range(4):
        widget.step([0, 0])
    rows = widget.driven.rows
    assert len(rows["truth"]["frames"]) == 5
    assert rows["failing"]["failed"] == "RuntimeError: no road in my weights"
    assert "painted magenta" in rows["failing"]["note"][2]
    assert rows["short"]["failed"] == "the episode ended (goal)"
    assert len(rows["short"]["frames"]) == 2
    widget.start()
    assert all(row["failed"] == "" and len(row["frames"]) == 1 for row in widget.driven.rows.values())


def test_a_model_whose_pictures_change_their_shape_is_left_behind():
    class Growing(Toy):
        def step(self, action):
            self.size = SIZE if self.steps < 1 else (48, 64)
            return super().step(action)

    widget = view({"growing": Growing()})
    for _ in range(3):
        widget.step([0, 0])
    row = widget.driven.rows["growing"]
    assert "'growing' gave frames (48, 64, 3)" in row["failed"]
    assert len(row["frames"]) == 2
    assert len(widget.driven.rows["truth"]["frames"]) == 4


def test_an_episode_of_the_world_can_be_driven():
    episode = Episode(make_world(SceneSpec(5, duration_s=2.0)), Camera(width=48, height=32, focal_px=30.0))
    widget = DriveView({"twin": Episode(episode.world, episode.camera)}, truth=episode)
    for _ in range(3):
        widget.step([0.2, 1.0])
    twin = widget.driven.rows["twin"]
    assert twin["error"] == [0.0] * 4
    assert twin["pose"] == widget.driven.rows["truth"]["pose"]
    for _ in range(3):
        widget.step([0.0, 0.0])
    assert "ended" in widget.driven.rows["truth"]["failed"]


def test_replies_hold_a_picture_a_row_and_errors_are_answers():
    widget, sent = view(), []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    for message in ({"kind": "start"}, {"kind": "step", "action": [0.1, 0]}, {"kind": "step"}, {"kind": "fly"}):
        widget._on_message(widget, message, [])
    (_, start), (content, buffers), *wrong = sent
    assert len(start) == len(buffers) == 2
    assert Image.open(io.BytesIO(buffers[1])).size == (32, 24)
    assert content["rows"]["direct"]["error"] > 0
    assert [c["error"].split(":")[0] for c, _ in wrong] == ["InvalidAction", "UnknownName"]


def test_drives_without_room_are_left_out_and_named():
    recorded = {name: np.zeros((12, 2)) for name in "abc"}
    state = view(recorded=recorded, offline_kb=1).static_state()
    assert [d["name"] for d in state["_drives"]] == ["a"]
    assert state["_left"] == ["b", "c"]
    assert view(recorded=recorded, offline_kb=0).static_state()["_drives"] == []
    json.dumps(view(recorded=recorded).static_state())


# -- in a browser ---------------------------------------------------------------------------------------------------------------

READY = '.wrp-drive[data-state="ready"]'
CANVAS = ".wrp-drive figure:nth-child(2) canvas"


@pytest.mark.browser
def test_recorded_drives_play_offline(tmp_path, visit):
    bends = np.column_stack([np.linspace(0, 0.5, 8), np.zeros(8)])
    seen = visit(page_with(tmp_path, view(recorded={"a bend": bends, "straight on": bends * 0}), DriveView(Toy())))
    page = seen.page
    page.wait_for_selector(READY)
    assert "No recorded drives" in page.text_content('.wrp-drive[data-state="silent"]')
    start = seen.pixels(CANVAS)
    page.focus(".wrp-time")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.wrp-drive').dataset.frame === '8'")
    page.wait_for_timeout(300)
    bent = seen.pixels(CANVAS)
    assert bent != start
    assert page.text_content("figure:nth-child(2) .wrp-value").startswith("RMSE")
    assert page.locator(".wrp-map .wrp-driven").count() == 2
    page.select_option("select", "1")
    page.wait_for_function("document.querySelector('.wrp-drive').dataset.frame === '0'")
    page.focus(".wrp-time")
    page.keyboard.press("End")
    seen.wait_for_other_pixels(CANVAS, bent)
    page.click(".wrp-play")
    page.wait_for_function("Number(document.querySelector('.wrp-drive').dataset.frame) >= 2")
    tree = page.locator(READY).aria_snapshot()
    for part in (
        'combobox "recorded drive"',
        'slider "steering wheel"',
        "eye path",
        'slider "time from the present"',
    ):
        assert part in tree, part
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_live_the_arrows_drive_and_the_drive_can_be_seen_again(tmp_path, visit):
    seen = live(tmp_path, visit, view(fps=20.0))
    page = seen.page
    page.wait_for_selector(READY)
    start = seen.pixels(CANVAS)
    page.focus(".wrp-drive")
    page.keyboard.press(" ")
    page.keyboard.down("ArrowLeft")
    page.keyboard.down("w")
    page.wait_for_function("Number(document.querySelector('.wrp-drive').dataset.steps) >= 6")
    page.keyboard.up("ArrowLeft")
    page.keyboard.press("Escape")
    page.wait_for_selector(READY)
    asked = page.evaluate("asked.filter((m) => m.kind === 'step').map((m) => m.action)")
    assert asked[0][0] == 0 < max(steering for steering, _ in asked)
    assert asked[-1][1] == TRAINED["accel_mps2"][1]
    assert seen.pixels(CANVAS) != start
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    assert seen.pixels(CANVAS) == start

    steps = int(page.get_attribute(".wrp-drive", "data-steps"))
    page.evaluate("asked.length = 0")
    page.get_by_role("button", name="Drive it again").click()
    page.wait_for_function(f"asked.filter((m) => m.kind === 'step').length === {steps}")
    assert page.evaluate("asked.filter((m) => m.kind === 'step').map((m) => m.action)") == asked
    page.wait_for_function(f"document.querySelector('.wrp-drive').dataset.steps === '{steps}'")
    page.get_by_role("button", name="Start over").click()
    page.wait_for_function("document.querySelector('.wrp-drive').dataset.steps === '0'")
    assert seen.console == []
    page.evaluate("close_widget()")


@pytest.mark.browser
def test_a_slider_holds_and_what_is_outside_the_trained_range_is_marked(tmp_path, visit):
    page = live(tmp_path, visit, view(fps=20.0)).page
    page.wait_for_selector(READY)
    page.evaluate("""() => {
      const slider = document.querySelector('.wrp-held'); slider.value = String(slider.max); slider.dispatchEvent(new Event('input'));
    }""")
    page.wait_for_function(
        "document.querySelector('.wrp-editor output').textContent.includes('outside the trained range')"
    )
    page.get_by_role("button", name="Drive", exact=True).click()
    page.wait_for_function("asked.filter((m) => m.kind === 'step').length >= 3")
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("new Set(asked.filter((m) => m.kind === 'step').map((m) => m.action[0])).size") == 1


@pytest.mark.browser
def test_a_model_that_fails_is_shown_and_a_new_start_helps(tmp_path, visit):
    seen = live(tmp_path, visit, DriveView({"failing": Failing()}, fps=20.0))
    page = seen.page
    page.wait_for_selector(READY)
    page.get_by_role("button", name="Drive", exact=True).click()
    page.wait_for_selector('.wrp-drive[data-state="error"]')
    assert "no road in my weights" in page.text_content(".wrp-note")
    assert "ended" in page.text_content("figcaption .wrp-value")
    page.get_by_role("button", name="Start over").click()
    page.wait_for_selector(READY)
    assert page.text_content(".wrp-note") == ""
    assert seen.console == []
