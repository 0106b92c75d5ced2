import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import traitlets
from browsing import live, page_with
from PIL import Image

from wamlab.errors import InvalidAction, InvalidParameter, InvalidShape
from wamlab_widgets import ActionScrubber
from wamlab_widgets.pixels import MAGENTA

HEIGHT, WIDTH, HORIZON = 24, 32, 3
PRESENT = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
LOGGED = np.column_stack([np.full(HORIZON, 0.2), np.zeros(HORIZON), np.full(HORIZON, 8.0)])
TRAINED = {"steering_rad": (-0.6, 0.6), "accel_mps2": (-2.0, 2.0)}


def bar(actions, level=220):
    """Frames with a bright bar where the steering so far has put it, on a ground as bright as the acceleration."""
    frames = np.zeros((len(actions), HEIGHT, WIDTH, 3), np.uint8)
    for k, (angle, accel, _) in enumerate(np.cumsum(actions, 0)):
        frames[k] = int(np.clip(80 + 10 * accel, 0, 200))
        at = int(np.clip(WIDTH / 2 - 6 * angle, 2, WIDTH - 3))
        frames[k, :, at - 2 : at + 2] = level
    return frames


def sampled(actions, seed=0, steps=10, guidance=1.0):
    """The same with noise that fewer steps leave more of."""
    noise = np.random.default_rng(seed).normal(0, 200 / steps, (len(actions), HEIGHT, WIDTH, 3))
    return np.clip(bar(actions) + guidance * noise, 0, 255).astype(np.uint8)


def scrubber(rollout=None, **changes):
    settings = {"truth": bar, "trained": TRAINED, "offline_kb": 60} | changes
    return ActionScrubber(rollout or {"direct": bar, "diffusion": sampled}, PRESENT, LOGGED, **settings)


def test_unknown_arguments_are_refused_with_the_known_ones():
    with pytest.raises(InvalidParameter, match="no argument 'sed'; known: .*seed"):
        scrubber(sed=3)


def test_help_explains_every_trait_and_argument(capsys):
    ActionScrubber.help()
    text = capsys.readouterr().out
    assert all(name in text for name in (*ActionScrubber.trait_help(), "rollout", "truth", "trained", "offline_kb"))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"rollout": {"truth": bar}}, InvalidParameter, "no rollout may be called 'truth'"),
        ({"rollout": {"direct": 3}}, InvalidParameter, "'direct' must be a callable .* not int"),
        ({"present": PRESENT / 255}, InvalidShape, r"present must be \(H, W, 3\) uint8, not .* float64"),
        ({"logged": None}, InvalidParameter, "horizon of 1 or more"),
        ({"logged": LOGGED * np.nan}, InvalidAction, "row 0"),
        ({"horizon": 5}, InvalidAction, r"logged must be \(5,"),
        ({"actions": [[0, 0]]}, InvalidAction, r"actions must be \(3,"),
        ({"offline_kb": -1}, InvalidParameter, "offline_kb"),
        ({"quality": 0}, InvalidParameter, "quality"),
        ({"trained": {"steering": (0, 1)}}, InvalidParameter, "trained must be"),
    ],
)
def test_wrong_data_is_named(changes, error, says):
    given = {"rollout": bar, "present": PRESENT, "logged": LOGGED} | changes
    with pytest.raises(error, match=says):
        ActionScrubber(**given)


def test_models_get_the_actions_with_their_speed_and_only_the_settings_they_take():
    asked = []

    def only_seed(actions, seed):
        asked.append((actions, seed))
        return bar(actions)

    widget = scrubber({"m": only_seed}, seed=5)
    widget.predict("m", [[0.1, 1.0]] * HORIZON, steps=3)
    ((actions, seed),) = asked
    assert actions.shape == (HORIZON, 3)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions[:, 2], [8, 8.5, 9])
    assert seed == 5
    assert widget._scene["accepts"] == {"truth": [], "m": ["seed"]}


def test_asking_again_costs_nothing():
    calls = []
    widget = scrubber({"m": lambda actions, seed=0: calls.append(seed) or bar(actions)})
    for seed in (1, 1, 2, 1):
        widget.predict("m", LOGGED, seed=seed)
    assert calls == [1, 2]


def test_errors_are_those_of_the_pictures():
    widget = scrubber()
    assert widget.errors("direct", LOGGED) == [0.0] * (HORIZON + 1)
    found = widget.errors("diffusion", LOGGED, seed=3)
    frames = sampled(LOGGED.astype(np.float32), seed=3).astype(float)
    true = bar(LOGGED.astype(np.float32))
    np.testing.assert_allclose(found[1:], np.sqrt(((frames - true) ** 2).mean((1, 2, 3))), atol=0.06)
    assert widget.errors("truth", LOGGED) is None
    assert scrubber(truth=None).errors("direct", LOGGED) is None


def test_replies_hold_a_strip_and_errors_are_answers():
    widget, sent = scrubber(), []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    actions = [[0.1, 0.0]] * HORIZON
    for message in (
        {"kind": "rollout", "row": "direct", "actions": actions},
        {"kind": "errors", "row": "direct", "actions": actions},
        {"kind": "rollout", "row": "nobody", "actions": actions},
        {"kind": "rollout", "row": "direct", "actions": actions[1:]},
        {"kind": "nonsense"},
        "nonsense",
    ):
        widget._on_message(widget, message, [])
    (content, buffers), (errors, _), *wrong = sent
    assert Image.open(io.BytesIO(buffers[0])).size == ((HORIZON + 1) * WIDTH, HEIGHT)
    assert errors["errors"] == [0.0] * (HORIZON + 1)
    assert [c["error"].split(":")[0] for c, _ in wrong] == [
        "UnknownName",
        "InvalidAction",
        "UnknownName",
        "AttributeError",
    ]
    assert content["mime"] == "image/jpeg"


def test_float_frames_are_taken_and_their_nan_painted():
    frames = torch.zeros(HORIZON, HEIGHT, WIDTH, 3)
    frames[1, :6] = float("nan")
    answer = scrubber({"m": lambda actions: frames}).predict("m", LOGGED)
    assert tuple(answer.frames[2, 0, 0]) == MAGENTA
    assert tuple(answer.frames[2, -1, 0]) == (128, 128, 128)
    assert "8.33% of the pixels" in answer.note


@pytest.mark.parametrize(
    "frames", [np.zeros((HORIZON, 3, HEIGHT, WIDTH), np.uint8), np.zeros((HORIZON, HEIGHT, WIDTH, 3), int)]
)
def test_frames_of_another_kind_are_refused(frames):
    with pytest.raises(InvalidShape, match=r"'m' gave frames .* must be \(3, 24, 32, 3\)"):
        scrubber({"m": lambda actions: frames}).predict("m", LOGGED)


def with_latents(actions):
    """The bar again, and two by three latents: grey now, later red on the left."""
    components = np.zeros((len(actions) + 1, 2, 3, 3), np.float32)
    components[1:, :, 0, 0] = 1
    return SimpleNamespace(frames=bar(actions), components=components)


def test_components_of_latents_come_with_the_frames():
    widget, sent = scrubber({"m": with_latents}), []
    answer = widget.predict("m", LOGGED)
    assert answer.components.shape == (HORIZON + 1, 2, 3, 3)
    assert answer.components[1, 0, 0].tolist() == [255, 128, 128]
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._on_message(widget, {"kind": "rollout", "row": "m", "actions": LOGGED.tolist()}, [])
    ((content, buffers),) = sent
    assert content["latents"] == [3, 2]
    exact = np.asarray(Image.open(io.BytesIO(buffers[1])))
    np.testing.assert_array_equal(exact[:, 3:6], answer.components[1])
    with pytest.raises(InvalidShape, match=r"'m' gave components \(3, 2, 3, 3\); they must be \(4, h, w, 3\)"):
        shorter = lambda a: SimpleNamespace(frames=bar(a), components=np.zeros((HORIZON, 2, 3, 3)))  # noqa: E731
        scrubber({"m": shorter}).predict("m", LOGGED)


def test_bad_traits_are_refused():
    widget = scrubber()
    with pytest.raises(InvalidAction, match="actions must be"):
        widget.actions = [[0, 0]]
    with pytest.raises(InvalidAction, match="row 0"):
        widget.actions = [[float("nan"), 0]] * HORIZON
    with pytest.raises(traitlets.TraitError, match="frame must be 0 or more"):
        widget.frame = -1
    with pytest.raises(traitlets.TraitError):
        widget.view = "sideways"
    assert widget.actions == LOGGED[:, :2].tolist()


def test_another_present_is_another_scene():
    widget = scrubber(actions=[[0.5, 0.5]] * HORIZON)
    before = widget._scene["version"]
    widget.look_at(bar, PRESENT[:8, :8], np.zeros((5, 2)))
    assert widget._scene["version"] > before
    assert widget._scene["size"] == [8, 8]
    assert np.shape(widget.actions) == (5, 2)


@pytest.mark.parametrize("offline_kb", [20, 60, 200])
def test_the_grid_keeps_to_its_budget_and_uses_it(offline_kb):
    widget = scrubber(offline_kb=offline_kb)
    points = widget.grid()
    spent = sum(p["bytes"] for p in points)
    assert spent == sum(len(s) for p in points for s in p["strips"].values())
    assert not any(p["latents"] for p in points)
    assert [p["name"] for p in points[:5]] == ["logged", "straight", "left", "right", "brake"]
    if len(points) > 5:
        assert spent < 1.3 * offline_kb * 1000
    assert len(points) <= len(scrubber(offline_kb=2 * offline_kb).grid())
    assert len({str(p["actions"]) for p in points}) == len(points)


def test_without_room_there_is_no_grid():
    assert scrubber(offline_kb=0).grid() == []


def test_a_row_that_fails_leaves_the_others_in_the_grid():
    def right_only(actions):
        if actions[0, 0] > 0:
            raise ValueError("I never turn left")
        return bar(actions)

    points = {p["name"]: p for p in scrubber({"m": right_only}).grid()}
    assert points["left"]["failed"] == {"m": "ValueError: I never turn left"}
    assert "truth" in points["left"]["strips"]
    assert points["right"]["failed"] == {}


def test_frames_are_never_in_synced_traits():
    state = scrubber().get_state()
    assert len(json.dumps(state["_scene"])) < 2000
    assert not any(isinstance(v, bytes) for v in state.values())


# -- in a browser ---------------------------------------------------------------------------------------------------------------


READY = '.wrp-scrubber[data-state="ready"]'
LEFT = ".wrp-editor:nth-child(1) .wrp-held"
CANVAS = ".wrp-scrubber figure:nth-child(2) canvas"


@pytest.mark.browser
def test_it_scrubs_offline(tmp_path, visit):
    seen = visit(page_with(tmp_path, scrubber()))
    page = seen.page
    page.wait_for_selector(READY)
    page.focus(".wrp-time")
    page.keyboard.press("End")
    page.wait_for_selector(f'.wrp-scrubber[data-frame="{HORIZON}"]')
    logged = seen.pixels(CANVAS)
    assert page.get_by_role("button", name="logged").get_attribute("aria-pressed") == "true"
    assert "these very actions" in page.text_content(".wrp-state")

    page.get_by_role("button", name="brake").click()
    page.wait_for_function("document.querySelector('.wrp-state').textContent.includes('brake')")
    braking = seen.pixels(CANVAS)
    assert braking != logged

    page.focus(LEFT)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.wrp-state').textContent.includes('the nearest to your actions')")
    assert "rad left" in page.get_attribute(LEFT, "aria-valuetext")
    page.keyboard.press("End" if "left" not in page.get_attribute(LEFT, "aria-valuetext") else "Home")
    seen.wait_for_other_pixels(CANVAS, braking)
    assert page.locator(".wrp-snapped").count() == 2

    plain = seen.pixels(CANVAS)
    page.select_option(".wrp-scrubber select", "difference")
    seen.wait_for_other_pixels(CANVAS, plain)
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
@pytest.mark.parametrize("offline", [True, False], ids=["offline", "live"])
def test_latents_are_shown_below_the_picture_where_they_are_known(tmp_path, visit, offline):
    widget = scrubber({"m": with_latents, "bar": bar})
    seen = visit(page_with(tmp_path, widget)) if offline else live(tmp_path, visit, widget)
    page = seen.page
    page.wait_for_selector(READY)
    assert page.locator(".wrp-latents:visible").count() == 0
    page.select_option(".wrp-scrubber select", "latents")
    below = "figure:nth-child(2) .wrp-latents"
    page.wait_for_selector(below)
    assert page.locator(".wrp-latents:visible").count() == 1
    before = seen.pixels(below)
    page.focus(".wrp-time")
    page.keyboard.press("End")
    seen.wait_for_other_pixels(below, before)
    left, right = page.eval_on_selector(
        below, "c => [0.1, 0.9].map((x) => c.getContext('2d').getImageData(c.width * x, c.height / 2, 1, 1).data[0])"
    )
    assert left > 200 > 140 > right
    assert "main components of the latents" in page.get_attribute(below, "aria-label")
    if offline:  # a page keeps them for its presets
        assert all(bool(p["latents"]) == bool(p["name"]) for p in widget.grid())
        page.focus(LEFT)
        for _ in range(8):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function(
            "document.querySelector('.wrp-state').textContent.includes('for the named actions only')"
        )
        assert page.locator(".wrp-latents:visible").count() == 0
    assert [m for m in seen.console if "willReadFrequently" not in m] == []


@pytest.mark.browser
def test_a_profile_is_drawn_by_hand_and_by_keys(tmp_path, visit):
    page = visit(page_with(tmp_path, scrubber())).page
    page.wait_for_selector(READY)
    values = lambda: page.eval_on_selector_all(  # noqa: E731
        ".wrp-editor:nth-child(1) .wrp-handle", "hs => hs.map(h => Number(h.getAttribute('aria-valuenow')))"
    )
    box = page.locator(".wrp-chart").first.bounding_box()
    page.mouse.move(box["x"] + 16, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.66, box["y"] + box["height"] - 10, steps=12)
    page.mouse.up()
    page.wait_for_timeout(300)
    drawn = values()
    assert drawn[0] > 0 > drawn[-1]
    assert drawn == sorted(drawn, reverse=True)
    assert "outside the trained range" in page.text_content(".wrp-editor:nth-child(1) output")
    page.locator(".wrp-editor:nth-child(1) .wrp-handle").nth(2).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    page.wait_for_timeout(300)
    assert values()[1] == 0
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(300)
    assert values()[1] > 0


@pytest.mark.browser
def test_every_control_has_a_name(tmp_path, visit):
    page = visit(page_with(tmp_path, scrubber())).page
    page.wait_for_selector(READY)
    tree = page.locator(".wrp-scrubber").aria_snapshot()
    for part in (
        'group "Action scrubber"', 'button "straight"', 'combobox "view"', 'slider "steering wheel, held all the time"',
        'slider "acceleration at +0.5 s"', 'slider "time from the present"', 'img "direct, now"', "status",
    ):  # fmt: skip
        assert part in tree, part


@pytest.mark.browser
def test_states_without_futures_are_visible(tmp_path, visit):
    def broken(actions):
        raise ValueError("no such road")

    page = visit(page_with(tmp_path, scrubber(offline_kb=0), scrubber({"broken": broken}))).page
    page.wait_for_selector('.wrp-scrubber[data-state="error"]')
    assert "offline_kb=0" in page.text_content('.wrp-scrubber[data-state="silent"]')
    assert "no such road" in page.text_content('.wrp-scrubber[data-state="error"] figure:nth-child(2) .wrp-note')


@pytest.mark.browser
def test_live_it_previews_and_refines(tmp_path, visit):
    widget = scrubber(steps=12, preview_steps=3)
    page = live(tmp_path, visit, widget).page
    page.wait_for_selector(READY)
    page.wait_for_function("document.querySelectorAll('canvas')[2].dataset.preview === ''")
    steps = page.evaluate("asked.filter((m) => m.row === 'diffusion' && m.kind === 'rollout').map((m) => m.steps)")
    assert steps == [3, 12]
    page.wait_for_function("asked.filter((m) => m.kind === 'errors').length === 2")
    page.focus(".wrp-time")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('figure:nth-child(3) .wrp-value').textContent.startsWith('RMSE')")
    before = page.evaluate("asked.length")
    page.get_by_role("button", name="logged").click()
    page.wait_for_timeout(400)
    assert page.evaluate("asked.length") == before
    page.evaluate("close_widget()")


@pytest.mark.browser
def test_a_thousand_slider_events_ask_for_little_and_end_with_the_last(tmp_path, visit):
    seen = live(tmp_path, visit, scrubber())
    page = seen.page
    page.wait_for_selector(READY)
    page.evaluate("asked.length = 0")
    page.evaluate("""async () => {
      const slider = document.querySelector('.wrp-held');
      for (let i = 0; i < 1000; i += 1) {
        slider.value = String(-0.9 + 0.0013 * i); slider.dispatchEvent(new Event('input'));
        if (i % 50 === 0) await new Promise((r) => setTimeout(r, 10));
      }
    }""")
    page.wait_for_selector(READY)
    last = page.evaluate("Number(document.querySelector('.wrp-held').value)")
    page.wait_for_function(
        f"JSON.parse(document.querySelector('figure:nth-child(2) canvas').dataset.actions)[0][0] === {last}"
    )
    rows = page.evaluate("asked.map((m) => m.row)")
    assert len(rows) < 100
    assert rows.count("truth") <= 2  # it is asked for when the hand rests
    assert seen.console == []


@pytest.mark.browser
def test_a_thousand_slider_events_in_a_page_end_with_the_last(tmp_path, visit):
    seen = visit(page_with(tmp_path, scrubber()))
    page = seen.page
    page.wait_for_selector(READY)
    page.evaluate("""async () => {
      const slider = document.querySelector('.wrp-held');
      for (let i = 0; i < 1000; i += 1) {
        slider.value = String(0.9 - 0.0018 * i); slider.dispatchEvent(new Event('input'));
        if (i % 50 === 0) await new Promise((r) => setTimeout(r, 10));
      }
    }""")
    last = page.evaluate("Number(document.querySelector('.wrp-held').value)")
    grid = np.array([p["actions"] for p in scrubber().grid()])[:, 0]
    reach = np.array([scrubber()._scene["limits"][c] for c in ("steering_rad", "accel_mps2")])
    held = grid[[np.ptp(p["actions"], axis=0).max() == 0 for p in scrubber().grid()]]
    nearest = held[np.abs((held - [last, 0]) / reach).sum(1).argmin()]
    page.wait_for_function(
        "([steering, accel]) => { const [p] = JSON.parse(document.querySelectorAll('canvas')[1].dataset.actions); "
        "return p[0] === steering && p[1] === accel; }",
        arg=nearest.tolist(),
    )
    assert seen.console == []


@pytest.mark.browser
def test_a_model_that_raises_or_answers_wrongly_is_shown_and_left_behind(tmp_path, visit):
    def touchy(actions):
        if actions[0, 0] > 0.5:
            return bar(actions)[:, :3]
        if actions[0, 1] < 0:
            raise RuntimeError("out of brakes")
        frames = bar(actions) / 127.5 - 1
        frames[:, :2] = np.nan
        return frames

    seen = live(tmp_path, visit, scrubber({"touchy": touchy, "direct": bar}))
    page = seen.page
    page.wait_for_selector(READY)
    assert "painted magenta" in page.text_content("figure:nth-child(2) .wrp-note")
    page.get_by_role("button", name="brake").click()
    page.wait_for_selector('.wrp-scrubber[data-state="error"]')
    assert "out of brakes" in page.text_content("figure:nth-child(2) .wrp-note")
    assert page.text_content("figure:nth-child(3) .wrp-note") == ""
    page.get_by_role("button", name="left").click()
    page.wait_for_function(
        "document.querySelector('figure:nth-child(2) .wrp-note').textContent.includes('they must be')"
    )
    assert "'touchy' gave frames (3, 3, 32, 3)" in page.text_content("figure:nth-child(2) .wrp-note")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector('.wrp-scrubber[data-state="error"]')
    page.get_by_role("button", name="straight").click()
    page.wait_for_selector(READY)
    assert seen.console == []


@pytest.mark.browser
def test_a_kernel_that_goes_silent_is_seen_and_asked_again(tmp_path, visit):
    seen = live(tmp_path, visit, scrubber())
    page = seen.page
    page.wait_for_selector(READY)
    page.clock.install()
    page.evaluate("globalThis.alive = globalThis.model.send; globalThis.model.send = () => {}")
    page.get_by_role("button", name="brake").click()
    page.clock.run_for(9000)
    page.wait_for_selector('.wrp-scrubber[data-state="silent"]')
    assert "No answer from the kernel" in page.text_content(".wrp-state")
    page.evaluate("globalThis.model.send = globalThis.alive")
    page.get_by_role("button", name="Try again").click()
    page.clock.run_for(500)
    page.wait_for_selector(READY)
    assert seen.console == []
