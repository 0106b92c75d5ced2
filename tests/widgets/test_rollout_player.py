import base64
import io
import json
import re

import av
import numpy as np
import plotly.graph_objects as go
import pytest
import traitlets
from browsing import live, page_with
from notebook_files import executed, mime
from PIL import Image

from wamlab.errors import InvalidAction, InvalidParameter, InvalidShape, UnknownName
from wamlab.notebooks.export import export
from wamlab_widgets import RolloutPlayer


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
    assert all(
        name in text
        for name in ("scene", "frame", "fps", "group", "truth", "metric", "motion", "styles", "observe", "jslink")
    )


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
        ({"motion": {"direct": np.zeros(3)}}, InvalidShape, r"motion of 'direct' must be \(5,\)"),
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


@pytest.mark.browser
def test_motion_is_drawn_with_the_truths_behind_it(tmp_path, visit):
    motion = {"truth": np.arange(5.0), "direct": np.arange(5.0) / 2}
    page = visit(page_with(tmp_path, RolloutPlayer([scene(motion=motion)], motion="moved, px", frame=4))).page
    page.wait_for_selector('.wrp[data-state="ready"]')
    assert page.locator(".wrp-motion").all_text_contents() == ["moved, px 4.00", "moved, px 2.00"]
    assert page.locator("figure:nth-child(1) .wrp-behind").count() == 0
    assert page.locator("figure:nth-child(2) .wrp-behind").count() == 1
    ends = "lines => lines.map((l) => Number(l.getAttribute('d').split(' ').at(-1)))"
    behind, own = page.eval_on_selector_all("figure:nth-child(2) .wrp-motion + svg .wrp-line", ends)
    assert behind < own  # up is more


@pytest.mark.browser
def test_long_names_are_not_cut_off_and_pictures_stay_in_line(tmp_path, visit):
    rows = {name: np.zeros((2, 16, 16, 3), np.uint8) for name in ("truth", "jump chain, diffusion", "a", "b", "c")}
    errors = {"jump chain, diffusion": [10.0, 123.0]}
    for width in (390, 700, 1200):
        page = visit(page_with(tmp_path, RolloutPlayer([{"rows": rows, "errors": errors}], frame=1)), width=width).page
        page.wait_for_selector('.wrp[data-state="ready"]')
        cut = "names => names.filter((n) => n.scrollWidth > n.clientWidth || getComputedStyle(n).textOverflow === 'ellipsis').length"
        assert page.eval_on_selector_all(".wrp-name", cut) == 0
        tops = page.eval_on_selector_all(".wrp canvas", "cs => cs.map((c) => c.getBoundingClientRect().top)")
        columns = page.eval_on_selector(".wrp-stage", "s => getComputedStyle(s).gridTemplateColumns.split(' ').length")
        assert len({round(top) for top in tops}) == -(-5 // columns)


@pytest.mark.browser
def test_a_group_shares_its_time_with_players_and_plots(tmp_path, visit):
    def player(frames, step, group):
        return RolloutPlayer([scene(frames=frames, times_s=np.arange(frames) * step)], group=group)

    curve = go.Figure(go.Scatter(x=[0, 1, 2], y=[1, 2, 3])).update_layout(meta={"group": "drive"})
    other = go.Figure(go.Scatter(x=[0, 1, 2], y=[1, 2, 3]))
    widgets = (player(5, 0.5, "drive"), player(3, 1.0, "drive"), player(5, 0.5, "other"), player(5, 0.5, ""))
    outputs = [(f"w{i}", [mime(w._repr_mimebundle_()[0])]) for i, w in enumerate(widgets)]
    outputs += [
        (f"plot {i}", [mime({"application/vnd.plotly.v1+json": json.loads(f.to_json())})])
        for i, f in enumerate((curve, other))
    ]
    seen = visit(export(executed(tmp_path / "x.ipynb", *outputs), tmp_path / "x.html").path)
    page = seen.page
    page.wait_for_function("document.querySelectorAll('.wrp[data-state=ready]').length === 4")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .xtick').length > 4")
    page.focus(".wrp-time")
    page.keyboard.press("End")
    frames = "ws => ws.map((w) => w.dataset.frame)"
    assert page.eval_on_selector_all(".wrp", frames) == ["4", "2", "0", "0"]
    page.keyboard.press("ArrowLeft")
    assert page.eval_on_selector_all(".wrp", frames)[0] == "3"  # the other's nearest frame does not pull it away
    page.locator(".wrp-time").nth(1).focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.eval_on_selector_all(".wrp", frames) == ["2", "1", "0", "0"]
    assert page.locator(".wamlab-time").count() == 1
    line, tick = (
        page.eval_on_selector(s, "e => { const b = e.getBoundingClientRect(); return (b.left + b.right) / 2; }")
        for s in (".wamlab-time", ".js-plotly-plot .xtick:has(text[data-unformatted='1'])")
    )
    assert abs(line - tick) < 2
    assert seen.console == []


@pytest.mark.browser
def test_what_is_shown_can_be_saved(tmp_path, visit):
    seen = visit(page_with(tmp_path, RolloutPlayer([scene("scene/1", frames=3)], fps=20.0)))
    page = seen.page
    page.wait_for_selector('.wrp[data-state="ready"]')

    def saved(name):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name).click()
        waiting.value.save_as(path := tmp_path / waiting.value.suggested_filename)
        return path

    picture = saved("Save picture (PNG)")
    assert picture.name == "scene_1.png"
    plain = np.asarray(Image.open(picture).convert("RGB"))
    height, width, _ = plain.shape
    assert width == 3 * 200 + 8
    assert height == 30 + 3 * (30 + 144 + 8)
    page.check(".wrp-check input")
    against = np.asarray(Image.open(saved("Save picture (PNG)")).convert("RGB"))
    np.testing.assert_array_equal(against[60:200], plain[60:200])  # the truth's row
    assert not np.array_equal(against[250:380], plain[250:380])
    page.wait_for_selector("text=Save film (WebM) >> visible=true")
    with av.open(str(saved("Save film (WebM)"))) as film:
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    assert len(frames) >= 3
    assert frames[0].shape[:2] == (30 + 2 * (30 + 192 + 8), 2 * (256 + 8) + 8)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_live_it_asks_the_kernel_and_shows_its_errors(tmp_path, visit):
    player = RolloutPlayer([scene()])
    answer, player.answer = player.answer, lambda message: [][0]
    seen = live(tmp_path, visit, player)
    page = seen.page
    page.wait_for_selector('.wrp[data-state="error"]')
    assert "IndexError" in page.text_content(".wrp-state")
    player.answer = answer
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector('.wrp[data-state="ready"]')
    middle = "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3]"
    assert page.eval_on_selector(".wrp canvas", middle) == 255
    page.evaluate("close_widget()")
    assert seen.console == []


@pytest.mark.browser
def test_a_kernel_that_goes_silent_is_seen_and_asked_again(tmp_path, visit):
    seen = live(tmp_path, visit, RolloutPlayer([scene(), scene("scene-0002", seed=1)]))
    page = seen.page
    page.wait_for_selector('.wrp[data-state="ready"]')
    page.clock.install()
    page.evaluate("globalThis.alive = globalThis.model.send; globalThis.model.send = () => {}")
    page.select_option(".wrp select", "1")
    page.clock.run_for(9000)
    page.get_by_text("No answer from the kernel").wait_for()
    page.evaluate("globalThis.model.send = globalThis.alive")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector('.wrp[data-state="ready"]')
    assert seen.console == []
