import io
import json

import numpy as np
import pytest
import traitlets
from browsing import live, page_with
from PIL import Image

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab_widgets import FrontierExplorer
from wamlab_widgets.pixels import MAGENTA

SHAPE = (4, 24, 32, 3)
TRUTH = np.full(SHAPE, 90, np.uint8)


def point(model="direct", setting="", at=(0.4, 0.3), level=120, **changes):
    x, y = at
    known = {"model": model, "setting": setting, "x": (x, x - 0.02, x + 0.02), "y": (y, y - 0.03, y + 0.03)}
    known |= {
        "samples": np.full(SHAPE, level, np.uint8),
        "card": {"RMSE ↓": f"{level} levels", "KID ↓": "unknown"},
        "on_frontier": False,
    }
    return known | changes


def points():
    bars = {"labels": ["0", "1", "2"], "values": [2.4, 1.0, np.nan]}
    return [
        point("direct", at=(0.50, 0.40), level=60, on_frontier=True),
        point("diffusion", "4 steps", (0.20, 0.30), 120, calibration=bars, note="too wide in channel 0"),
        point("diffusion", "20 steps", (0.25, 0.20), 180, on_frontier=True),
    ]


def explorer(given=None, **changes):
    return FrontierExplorer(points() if given is None else given, **({"truth": TRUTH} | changes))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"chsen": 1}, InvalidParameter, "no argument 'chsen'; known: .*chosen"),
        ({"given": [point(colour="red")]}, InvalidParameter, "point 0 has 'colour'; known: .*on_frontier"),
        ({"given": [{"model": "m", "x": (0, 0, 0)}]}, InvalidParameter, "point 0 has no y"),
        ({"given": [point(x=0.5)]}, InvalidParameter, r"direct: x must be \(value, low, high\)"),
        ({"given": [point(y=(np.nan, 0, 1))]}, InvalidParameter, "direct: y must be a finite value"),
        ({"given": [point(y=(1, 2, 0))]}, InvalidParameter, "low <= high"),
        ({"given": [point(y=(0, 0, 1))], "log_y": True}, InvalidParameter, "log_y needs y above 0, and that of direct"),
        ({"given": [point(samples=TRUTH[:2])]}, InvalidShape, r"'?direct'? gave frames \(2, 24, 32, 3\)"),
        ({"given": [point(samples=TRUTH[0])], "truth": None}, InvalidShape, r"samples must be \(N, H, W, 3\)"),
        ({"labels": ["a"]}, InvalidShape, "labels must be 4"),
        ({"given": [point(calibration={"labels": ["0"], "values": [1, 2]})]}, InvalidShape, "as many labels as values"),
        ({"given": [point(calibration={"labels": ["0"], "values": [0]})]}, InvalidParameter, "ratios above 0"),
        ({"chosen": 3}, traitlets.TraitError, r"chosen must be 0 \.\. 2"),
        ({"quality": 0}, InvalidParameter, "quality"),
    ],
)
def test_wrong_data_is_named(changes, error, says):
    with pytest.raises(error, match=says):
        explorer(**changes)


def test_help_explains_every_trait_and_argument(capsys):
    FrontierExplorer.help()
    text = capsys.readouterr().out
    assert all(name in text for name in (*FrontierExplorer.trait_help(), "points", "truth", "offline_kb", "Keys"))


def test_unknown_intervals_and_ratios_are_left_out_and_samples_may_be_missing():
    widget = explorer([point(y=(0.3, np.nan, np.nan), samples=None)])
    (known,) = widget._catalog
    assert known["y"] == [0.3, None, None]
    assert not known["sampled"]
    assert explorer()._catalog[1]["calibration"]["values"] == [2.4, 1.0, None]
    json.dumps(widget.static_state(), allow_nan=False)


def test_replies_hold_the_samples_and_errors_are_answers():
    widget, sent = explorer(), []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    for message in ({"kind": "samples", "point": 2}, {"kind": "truth"}, {"kind": "samples", "point": 9}, {"kind": "?"}):
        widget._on_message(widget, message, [])
    *right, (wrong, _), (other, _) = sent
    levels = []
    for _, buffers in right:
        image = Image.open(io.BytesIO(buffers[0]))
        assert image.size == (4 * 32, 24)
        levels.append(np.asarray(image.convert("L")).mean())
    np.testing.assert_allclose(levels, [180, 90], atol=3)
    assert "UnknownName: unknown point with samples '9'" in wrong["error"]
    assert "UnknownName" in other["error"]


def test_float_samples_are_taken_and_their_nan_painted():
    samples = np.zeros(SHAPE, np.float32)
    samples[0, 0] = np.nan
    widget = explorer([point(samples=samples)])
    assert tuple(widget._samples[0][0, 0, 0]) == MAGENTA
    assert tuple(widget._samples[0][1, 0, 0]) == (128, 128, 128)
    assert "1.04% of the pixels" in widget._catalog[0]["broken"]


def test_a_page_has_room_for_so_many_samples_and_keeps_the_chosen_ones():
    def noisy(k):
        return np.random.default_rng(k).integers(0, 255, SHAPE, np.uint8)

    many = [point(samples=noisy(k)) for k in range(9)]
    tight = explorer(many, chosen=7, offline_kb=25).static_state()["_pictures"]
    assert {"truth", "7"} <= set(tight)
    assert len(tight) < 10
    assert len(explorer(many).static_state()["_pictures"]) == 10
    assert explorer(many, offline_kb=0).static_state()["_pictures"] == {}


# -- in a browser ---------------------------------------------------------------------------------------------------------------

READY = '.wrp-frontier[data-state="ready"]'
SAMPLE = ".wrp-columns figure:nth-child(1) canvas:nth-child(2)"


def level(page, selector):
    """How bright the middle of a canvas is; read from a copy, so that the browser has nothing to advise."""
    middle = """canvas => {
      const copy = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
      copy.drawImage(canvas, canvas.width / 2, canvas.height / 2, 1, 1, 0, 0, 1, 1);
      return copy.getImageData(0, 0, 1, 1).data[0];
    }"""
    return page.eval_on_selector(selector, middle)


@pytest.mark.browser
def test_a_point_is_chosen_offline_by_click_by_key_and_from_the_list(tmp_path, visit):
    seen = visit(page_with(tmp_path, explorer(labels=["a", "b", "c", "d"]), FrontierExplorer([])))
    page = seen.page
    page.wait_for_selector(READY)
    assert "empty list" in page.text_content(".wrp-frontier:not([data-state])")
    assert abs(level(page, SAMPLE) - 60) < 4
    assert abs(level(page, ".wrp-columns figure:nth-child(1) canvas:nth-child(1)") - 90) < 4
    assert page.locator(".wrp-about dt").all_text_contents()[2:] == ["RMSE ↓", "KID ↓"]
    assert "60 levels" in page.text_content(".wrp-about dl")
    assert not page.is_visible(".wrp-bars")
    before = seen.pixels(SAMPLE)

    page.locator(".wrp-point").nth(1).locator("circle").last.click()
    seen.wait_for_other_pixels(SAMPLE, before)
    assert abs(level(page, SAMPLE) - 120) < 4
    assert "120 levels" in page.text_content(".wrp-about dl")
    assert page.locator(".wrp-bars rect").count() == 2
    assert "0 2.40, 1 1.00, 2 unknown" in page.get_attribute(".wrp-bars", "aria-label")
    assert "too wide in channel 0" in page.text_content(".wrp-about")

    chosen = "document.querySelector('.wrp-frontier').dataset.chosen"
    for key, to in (
        ("ArrowRight", 2),
        ("ArrowRight", 0),
        ("ArrowRight", 0),
        ("ArrowDown", 1),
        ("ArrowUp", 0),
        ("End", 2),
    ):
        page.keyboard.press(key)
        assert page.evaluate(chosen) == str(to), key
        assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"
    page.select_option(".wrp-about select", "1")
    assert page.evaluate(chosen) == "1"
    tree = page.locator(READY).aria_snapshot()
    for part in (
        'group "Frontier explorer"', "radiogroup", 'combobox "point"', 'img "diffusion, 4 steps, b"',
        'radio "diffusion, 20 steps: cosine similarity to the truth 0.25 (0.23 to 0.27)',
    ):  # fmt: skip
        assert part in tree, part
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_the_plane_is_to_scale(tmp_path, visit):
    """Nearer to the truth is to the right, further from real frames is up, and equal ratios are equal steps of a logarithmic axis."""
    line = [point(f"m{k}", at=(0.1 * k, 10.0**-k), samples=None, y=(10.0**-k, np.nan, np.nan)) for k in (1, 2, 3)]
    page = visit(page_with(tmp_path, FrontierExplorer(line, log_y=True))).page
    page.wait_for_selector(READY)
    centre = "rings => rings.map((c) => [Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))])"
    x, y = np.transpose(page.eval_on_selector_all(".wrp-point .wrp-ring", centre))
    assert (np.diff(x) > 10).all()
    assert (np.diff(y) > 10).all()
    np.testing.assert_allclose(np.diff(y)[0], np.diff(y)[1], rtol=1e-6)
    np.testing.assert_allclose(np.diff(x)[0], np.diff(x)[1], rtol=1e-6)


@pytest.mark.browser
def test_the_words_at_the_axes_do_not_cover_each_other(tmp_path, visit):
    long = {
        "x_label": "cosine similarity of the latents, mean of 8 s",
        "y_label": "kernel distance KD[dinov2-s14/embedded]",
    }
    for width, labels in ((390, long), (390, {}), (1200, long)):
        page = visit(page_with(tmp_path, explorer(**labels)), width=width).page
        page.wait_for_selector(READY)
        boxes = page.eval_on_selector_all(
            ".wrp-plane > g:first-child text",
            "ts => ts.map((t) => t.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])",
        )
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= width
            covered = [b for b in boxes[:i] if left < b[2] and right > b[0] and top + 2 < b[3] and bottom > b[1] + 2]
            assert covered == [], (width, labels)


@pytest.mark.browser
def test_samples_stand_in_rows_of_one_length(tmp_path, visit):
    eight = np.zeros((8, 16, 16, 3), np.uint8)
    path = page_with(tmp_path, FrontierExplorer([point(samples=eight)], eight))
    for width in (390, 800, 1200):
        page = visit(path, width=width).page
        page.wait_for_selector(READY)
        tops = page.eval_on_selector_all(".wrp-columns figure", "fs => fs.map((f) => f.getBoundingClientRect().top)")
        rows = [tops.count(top) for top in sorted(set(tops))]
        assert max(rows) - min(rows) <= 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_what_is_not_in_the_page_is_said(tmp_path, visit):
    page = visit(page_with(tmp_path, explorer([point(), point("b", samples=None)], offline_kb=0))).page
    page.wait_for_selector('.wrp-frontier[data-state="error"]')
    assert "for want of room" in page.text_content(".wrp-frontier .wrp-state")
    page.select_option(".wrp-about select", "1")
    page.wait_for_function("document.querySelector('.wrp-state').textContent.includes('No samples were given')")


@pytest.mark.browser
def test_live_it_asks_once_for_each_point_and_both_sides_choose(tmp_path, visit):
    seen = live(tmp_path, visit, explorer())
    page = seen.page
    page.wait_for_selector(READY)
    page.select_option(".wrp-about select", "2")
    page.wait_for_selector(READY)
    assert page.evaluate("model.get('chosen')") == 2
    page.evaluate("model.set('chosen', 1)")
    page.wait_for_selector(READY)
    assert abs(level(page, SAMPLE) - 120) < 4
    page.evaluate("model.set('chosen', 2)")
    page.wait_for_selector(READY)
    asked = page.evaluate("asked.map((m) => m.kind + (m.point ?? ''))")
    assert asked == ["truth", "samples0", "samples2", "samples1"]
    page.evaluate("close_widget()")
    assert seen.console == []


@pytest.mark.browser
def test_a_kernel_that_fails_or_goes_silent_is_seen_and_asked_again(tmp_path, visit):
    widget = explorer()
    answer, widget.answer = widget.answer, lambda message: {}["no such samples"]
    seen = live(tmp_path, visit, widget)
    page = seen.page
    page.wait_for_selector('.wrp-frontier[data-state="error"]')
    assert "no such samples" in page.text_content(".wrp-state")
    widget.answer = answer
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(READY)
    page.clock.install()
    page.evaluate("globalThis.alive = globalThis.model.send; globalThis.model.send = () => {}")
    page.select_option(".wrp-about select", "1")
    page.clock.run_for(9000)
    page.wait_for_selector('.wrp-frontier[data-state="silent"]')
    page.evaluate("globalThis.model.send = globalThis.alive")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(READY)
    assert abs(level(page, SAMPLE) - 120) < 4
    assert seen.console == []
