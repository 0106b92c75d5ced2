import base64
import io
import json
import re

import numpy as np
import pytest
import traitlets
from notebook_files import executed, mime
from PIL import Image

from wamlab.errors import InvalidAction, InvalidParameter, InvalidShape, UnknownName
from wamlab.notebooks.export import export
from wamlab_widgets import RolloutPlayer
from wamlab_widgets.base import source


def scene(name="scene-0001", frames=5, size=(24, 32), seed=0, **changes):
    rng = np.random.default_rng(seed)
    picture = lambda: rng.integers(0, 255, (frames, *size, 3), np.uint8)  # noqa: E731
    return {
        "name": name,
        "rows": {"truth": picture(), "direct": picture(), "diffusion": picture()},
        "errors": {"direct": np.linspace(0, 1, frames), "diffusion": np.linspace(0, 2, frames)},
        "actions": rng.normal(size=(frames - 1, 3)),
        "times_s": np.arange(frames) * 0.5,
    } | changes


def test_unknown_arguments_are_refused_with_the_known_ones():
    with pytest.raises(InvalidParameter, match="no argument 'fsp'; known: .*fps"):
        RolloutPlayer([scene()], fsp=3)


def test_help_explains_every_trait(capsys):
    RolloutPlayer.help()
    text = capsys.readouterr().out
    assert all(name in text for name in ("scene", "frame", "fps", "truth", "metric", "styles"))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"rows": {}}, InvalidShape, "has no rows"),
        ({"rows": {"truth": np.zeros((5, 8, 8, 3))}}, InvalidShape, "uint8, not .* float64"),
        (
            {"rows": {"truth": np.zeros((5, 8, 8, 3), np.uint8), "b": np.zeros((4, 8, 8, 3), np.uint8)}},
            InvalidShape,
            "all rows the same",
        ),
        ({"errors": {"direct": np.zeros(3)}}, InvalidShape, r"must be \(5,\)"),
        ({"errors": {"nobody": np.zeros(5)}}, UnknownName, "nobody"),
        ({"actions": np.zeros((5, 2))}, InvalidAction, "actions must be"),
        ({"times_s": np.zeros(4)}, InvalidShape, "one for each frame"),
    ],
)
def test_wrong_data_is_named(changes, error, says):
    with pytest.raises(error, match=says):
        RolloutPlayer([scene(**changes)])


def test_negative_positions_are_refused():
    with pytest.raises(traitlets.TraitError, match="frame must be 0 or more"):
        RolloutPlayer([scene()], frame=-1)


def test_live_replies_hold_strips_and_errors_are_answers():
    player = RolloutPlayer([scene()])
    sent = []
    player.send = lambda content, buffers=None: sent.append((content, buffers))
    player._on_message(player, {"kind": "strips", "id": 7, "scene": 0}, [])
    player._on_message(player, {"kind": "strips", "id": 8, "scene": 9}, [])
    player._on_message(player, {"kind": "nonsense", "id": 9}, [])
    (content, buffers), *wrong = sent
    assert content["id"] == 7
    assert content["rows"] == ["truth", "direct", "diffusion"]
    assert Image.open(io.BytesIO(buffers[0])).size == (5 * 32, 24)
    assert all("UnknownName" in c["error"] and not b for c, b in wrong)


def test_frames_are_never_in_synced_traits():
    state = RolloutPlayer([scene(size=(64, 64))]).get_state()
    catalog = json.dumps(state["_catalog"])
    assert len(catalog) < 2000
    assert not any(isinstance(v, bytes) for v in state.values())


def test_missing_values_become_null():
    player = RolloutPlayer([scene(errors={"direct": np.array([np.nan, 1, np.inf, 2, 3])})])
    assert player._catalog[0]["errors"]["direct"] == [None, 1.0, None, 2.0, 3.0]
    assert player._catalog[0]["actions"][0]["values"][-1] is None


def test_a_page_holds_the_script_once(tmp_path):
    bundle, _ = RolloutPlayer([scene(name="</script><b>x")])._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "image/jpeg"} <= set(bundle)
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))).size[0] == 4 * 32
    assert "</script><b>" not in bundle["text/html"]
    path = export(
        executed(tmp_path / "x.ipynb", ("a", [mime(bundle)]), ("b", [mime(bundle)])), tmp_path / "x.html"
    ).path
    text = path.read_text()
    assert len(re.findall("globalThis.wamlab.register", text)) == 1
    assert text.count('data-widget="rollout_player"') == 2


def page_with(tmp_path, *players):
    outputs = [(f"player {i}", [mime(p._repr_mimebundle_()[0])]) for i, p in enumerate(players)]
    return export(executed(tmp_path / "x.ipynb", *outputs), tmp_path / "x.html").path


@pytest.mark.browser
def test_it_plays_offline(tmp_path, visit):
    scenes = [scene(), scene("scene-0002", frames=9, seed=1)]
    seen = visit(page_with(tmp_path, RolloutPlayer(scenes)))
    page = seen.page
    page.wait_for_selector('.wrp[data-state="ready"]')
    assert page.locator(".wrp canvas").count() == 3
    present = seen.pixels(".wrp canvas")

    page.focus(".wrp-time")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(".wrp", "data-frame") == "1"
    assert seen.pixels(".wrp canvas") != present
    assert page.get_attribute(".wrp-time", "aria-valuetext") == "+0.5 s, frame 1 of 4"
    page.keyboard.press("End")
    assert page.text_content(".wrp-clock") == "+2.0 s"
    page.keyboard.press("Home")
    assert seen.pixels(".wrp canvas") == present

    second = ".wrp figure:nth-child(2) canvas"
    plain = seen.pixels(second)
    page.check(".wrp-check input")
    assert seen.pixels(second) != plain
    page.select_option(".wrp select", "1")
    page.wait_for_selector('.wrp[data-state="ready"]')
    assert page.get_attribute(".wrp-time", "max") == "8"

    page.click(".wrp-play")
    page.wait_for_function("Number(document.querySelector('.wrp').dataset.frame) >= 2")
    page.click(".wrp-play")
    assert page.get_attribute(".wrp-play", "aria-label") == "play"
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_every_control_has_a_name(tmp_path, visit):
    page = visit(page_with(tmp_path, RolloutPlayer([scene(), scene("other")]))).page
    page.wait_for_selector('.wrp[data-state="ready"]')
    tree = page.locator(".wrp").aria_snapshot()
    for part in (
        'group "Rollout player"',
        'combobox "scene"',
        "difference from truth",
        'button "play"',
        'slider "time from the present"',
    ):
        assert part in tree
    assert 'img "direct, now, error ↓ 0.00"' in tree


@pytest.mark.browser
def test_long_rollouts_wrap_into_rows(tmp_path, visit):
    frames = np.zeros((130, 2, 200, 3), np.uint8)
    frames[100:] = 255
    seen = visit(page_with(tmp_path, RolloutPlayer([{"rows": {"truth": frames}}])))
    seen.page.wait_for_selector('.wrp[data-state="ready"]')
    seen.page.focus(".wrp-time")
    seen.page.keyboard.press("End")
    middle = "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]"
    assert seen.page.eval_on_selector(".wrp canvas", middle) > 250


@pytest.mark.browser
def test_empty_and_broken_states_are_visible(tmp_path, visit):
    broken = RolloutPlayer([scene()])
    broken._strips = {(0, row): b"no image" for row in ("truth", "direct", "diffusion")}
    page = visit(page_with(tmp_path, RolloutPlayer([]), broken)).page
    page.wait_for_selector('.wrp[data-state="error"]')
    assert "No scenes to show" in page.text_content(".wrp >> nth=0")
    assert "could not be decoded" in page.text_content('.wrp[data-state="error"] .wrp-state')
    assert page.get_by_role("button", name="Try again").is_visible()


LIVE = """async ([source, state, strips]) => {
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const listeners = {};
  const model = {
    get: (k) => state[k],
    set: (k, v) => { state[k] = v; (listeners["change:" + k] ?? []).forEach((f) => f()); },
    on: (e, f) => (listeners[e] ??= []).push(f),
    off: (e, f) => { listeners[e] = (listeners[e] ?? []).filter((g) => g !== f); },
    save_changes() {},
    send(message) {
      globalThis.asked = (globalThis.asked ?? 0) + 1;
      const bytes = strips.map((s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0)));
      const reply = globalThis.asked === 1 ? { id: message.id, error: "ValueError: no such road" }
        : { id: message.id, mime: "image/webp", rows: state._catalog[0].rows };
      setTimeout(() => listeners["msg:custom"].forEach((f) => f(reply, bytes.map((b) => new DataView(b.buffer)))), 0);
    },
  };
  globalThis.close_player = module.default.render({ model, el: document.body });
}"""


@pytest.mark.browser
def test_live_it_asks_the_kernel_and_shows_its_errors(tmp_path, visit):
    player = RolloutPlayer([scene()])
    state = {k: v for k, v in player.static_state().items() if k != "_strips"}
    strips = [base64.b64encode(player.strip(0, row)).decode() for row in state["_catalog"][0]["rows"]]
    (tmp_path / "empty.html").write_text("<!doctype html><title>x</title><link rel=icon href=data:,>")
    seen = visit(tmp_path / "empty.html")
    seen.page.evaluate(LIVE, [source("rollout_player.js"), state, strips])
    seen.page.wait_for_selector('.wrp[data-state="error"]')
    assert "no such road" in seen.page.text_content(".wrp-state")
    seen.page.get_by_role("button", name="Try again").click()
    seen.page.wait_for_selector('.wrp[data-state="ready"]')
    middle = "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3]"
    assert seen.page.eval_on_selector(".wrp canvas", middle) == 255
    seen.page.evaluate("close_player()")
    assert seen.console == []
