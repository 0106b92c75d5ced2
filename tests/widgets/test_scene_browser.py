import io

import numpy as np
import pytest
from browsing import live, page_with
from PIL import Image

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.types import Scene
from wamlab_widgets import SceneBrowser


def scene(i, **changes):
    actions = np.column_stack([np.linspace(-i, i, 12), np.full(12, -0.1 * i), np.full(12, 20.0 - i)])
    attributes = {"time": ("day", "night")[i // 4 % 2], "place": "urban"}
    known = {"name": f"scene-{i:04}", "split": ("train", "test")[i % 2], "timestamps_s": np.arange(12) / 2}
    known |= {"image_paths": (), "actions": actions, "ego_pose": np.zeros((12, 3)), "attributes": attributes}
    known["description"] = f"drive number {i}"
    return Scene(**(known | changes))


def painted(scene):
    return np.full((27, 48, 3), 20 * int(scene.name[-2:]), np.uint8)


def browser_of(count=8, **changes):
    return SceneBrowser([scene(i) for i in range(count)], **({"thumbnail": painted} | changes))


def test_wrong_arguments_are_named():
    with pytest.raises(InvalidParameter, match="no argument 'chioce'; known: .*choice"):
        browser_of(chioce="x")
    with pytest.raises(UnknownName, match="unknown scene 'scene-9999'; known: .*scene-0003"):
        browser_of(choice="scene-9999")
    with pytest.raises(UnknownName, match="unknown order 'colour'; known: braking, name"):
        browser_of(order="colour")
    with pytest.raises(InvalidParameter, match="width"):
        browser_of(width=0)


def test_help_explains_every_trait_and_argument(capsys):
    SceneBrowser.help()
    text = capsys.readouterr().out
    assert all(name in text for name in (*SceneBrowser.trait_help(), "scenes", "thumbnail", "offline_kb"))


def test_the_choice_is_handed_on():
    browser, followed = browser_of(), []
    assert browser.scene is None
    browser.observe(lambda change: followed.append(browser.scene.name), "choice")
    browser.choice = "scene-0003"
    assert followed == ["scene-0003"]


def test_what_is_unknown_of_an_action_is_left_out():
    actions = np.full((12, 3), np.nan)
    actions[3] = 1.0, -2.0, 3.0
    (known,) = SceneBrowser([scene(1, actions=actions)], painted)._catalog
    assert (known["steering"], known["braking"], known["speed"]) == (1.0, 2.0, 3.0)
    assert known["traces"]["speed_mps"].count(None) == 11


def test_the_middle_frame_is_the_thumbnail(dataset):
    browser = SceneBrowser(dataset.scenes(), width=40)
    name = dataset.scenes()[0].name
    made = Image.open(io.BytesIO(browser.picture(name)))
    with Image.open(dataset.scenes()[0].image_paths[6]) as image:
        assert made.size == (40, round(40 * image.height / image.width))
        true = np.asarray(image.convert("RGB").resize(made.size), float)
    assert np.abs(np.asarray(made.convert("RGB"), float) - true).mean() < 6
    with pytest.raises(InvalidParameter, match="scene-0001 has no images"):
        SceneBrowser([scene(1)]).picture("scene-0001")


def test_replies_hold_a_picture_and_errors_are_answers():
    browser, sent = browser_of(), []
    browser.send = lambda content, buffers=None: sent.append((content, buffers))
    for message in ({"kind": "thumbnail", "name": "scene-0002"}, {"kind": "thumbnail", "name": "x"}, {"kind": "?"}):
        browser._on_message(browser, message, [])
    (_, buffers), *wrong = sent
    assert Image.open(io.BytesIO(buffers[0])).size == (48, 27)
    assert all("UnknownName" in content["error"] for content, _ in wrong)


def test_a_page_has_room_for_so_many_thumbnails_and_a_damaged_one_is_named():
    def touchy(scene):
        if scene.name.endswith("1"):
            raise OSError("truncated")
        return painted(scene)

    assert len(browser_of(offline_kb=0).static_state()["_pictures"]) == 0
    pictures = browser_of(thumbnail=touchy).static_state()["_pictures"]
    assert len(pictures) == 8
    assert pictures["scene-0001"] == "failed: truncated"


READY = '.wrp-browser[data-state="ready"]'


@pytest.mark.browser
def test_scenes_are_found_offline(tmp_path, visit):
    seen = visit(page_with(tmp_path, browser_of(), SceneBrowser([])))
    page = seen.page
    page.wait_for_selector(f"{READY} img")
    assert "empty list" in page.text_content(".wrp-browser:not([data-state])")
    assert page.text_content(".wrp-card:nth-child(5) p") == "train, night, 5.5 s"  # all are urban, which tells nothing
    page.select_option("select[aria-label=time]", "night")
    assert page.get_attribute(READY, "data-shown") == "4"
    page.select_option("select[aria-label='sorted by']", "steering")
    names = "cards => cards.map((c) => c.dataset.scene)"
    assert page.eval_on_selector_all(".wrp-card", names) == [f"scene-000{i}" for i in (7, 6, 5, 4)]
    page.fill("input[type=search]", "number 5")
    assert page.eval_on_selector_all(".wrp-card", names) == ["scene-0005"]
    page.fill("input[type=search]", "nowhere")
    assert "nothing passes" in page.text_content(f"{READY} .wrp-state")
    page.fill("input[type=search]", "")
    page.focus(".wrp-card")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "scene-0006 is chosen" in page.text_content(f"{READY} .wrp-state")
    assert page.get_attribute(".wrp-card:nth-child(2)", "aria-selected") == "true"
    assert page.evaluate("document.activeElement.dataset.scene") == "scene-0006"
    tree = page.locator(READY).aria_snapshot()
    for part in ('listbox "scenes"', 'combobox "time"', "searchbox", 'option "scene-0006: drive number 6'):
        assert part in tree, part
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_live_it_asks_for_the_thumbnails_in_view_only(tmp_path, visit):
    seen = live(tmp_path, visit, browser_of(count=60))
    seen.page.wait_for_selector(f"{READY} img")
    seen.page.wait_for_timeout(300)
    assert 0 < seen.page.evaluate("asked.length") < 60
    seen.page.click(".wrp-card:nth-child(3)")
    assert seen.page.evaluate("model.get('choice')") == "scene-0002"
    seen.page.evaluate("close_widget()")
    assert seen.console == []
