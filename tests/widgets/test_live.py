"""The widgets in real JupyterLab, through the real kernel."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("lab")]

SCRUBBER = """
import numpy as np
from wamlab_widgets import ActionScrubber

def bar(actions, seed=0, steps=10):
    frames = np.zeros((len(actions), 48, 64, 3), np.uint8)
    for k, angle in enumerate(np.cumsum(actions[:, 0])):
        at = int(np.clip(32 - 12 * angle, 2, 60))
        frames[k, :, at - 2 : at + 3] = 40 + 20 * min(steps, 10)
    return frames

widget = ActionScrubber({"bar": bar}, np.zeros((48, 64, 3), np.uint8), np.zeros((3, 2)), truth=lambda a: bar(a), offline_kb=0)
widget
"""

DRIVE = """
import os, time
from types import SimpleNamespace
import numpy as np
from wamlab_widgets import DriveView

class Road:
    def reset(self):
        self.at, self.steps = 0.0, 0
        return self.seen()
    def step(self, action):
        self.at, self.steps = self.at + float(action[0]), self.steps + 1
        return self.seen()
    def seen(self):
        rgb = np.zeros((3, 48, 64), np.uint8)
        at = int(np.clip(32 - 8 * self.at, 2, 60))
        rgb[:, :, at - 2 : at + 3] = 240
        return SimpleNamespace(rgb=rgb, pose=(self.steps, self.at, 0.0), speed_mps=2.0)

drive = DriveView({"dream": Road()}, truth=Road(), fps=10.0)
drive
"""


PLAYERS = """
import ipywidgets
import numpy as np
from wamlab_widgets import RolloutPlayer

def player(level, **traits):
    return RolloutPlayer([{"rows": {"truth": np.full((4, 16, 16, 3), level, np.uint8)}}], **traits)

first, second, linked, alone = player(50, group="g"), player(90, group="g"), player(130), player(170)
link = ipywidgets.jslink((second, "frame"), (linked, "frame"))
ipywidgets.VBox([first, second, linked, alone])
"""

FATAL = SCRUBBER.replace(
    "    frames = np.zeros((len(actions)",
    "    if actions[0, 0] > 0.5: __import__('os')._exit(1)\n    frames = np.zeros((len(actions)",
)


def pixels(page, selector):
    return page.eval_on_selector(selector, "canvas => canvas.toDataURL()")


def test_turning_the_wheel_bends_the_future_through_the_kernel(lab):
    page = lab.open(SCRUBBER, "print('seen by Python:', widget.actions)")
    page.wait_for_selector('.wrp-scrubber[data-state="ready"]')
    page.focus(".wrp-time")
    page.keyboard.press("End")
    canvas = ".wrp-scrubber figure:nth-child(2) canvas"
    straight = pixels(page, canvas)
    page.focus(".wrp-held")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    shown = "JSON.parse(document.querySelectorAll('.wrp-scrubber canvas')[1].dataset.actions)[0][0]"
    page.wait_for_function(f"{shown} !== 0 && {shown} === Number(document.querySelector('.wrp-held').value)")
    page.wait_for_selector('.wrp-scrubber[data-state="ready"]')
    assert pixels(page, canvas) != straight
    page.wait_for_function("document.querySelector('figure:nth-child(2) .wrp-value').textContent.startsWith('RMSE')")
    page.focus(".wrp-editor:nth-child(2) .wrp-handle")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector('.wrp-editor:nth-child(2) .wrp-handle:not([aria-valuenow="0"])')
    angle = page.eval_on_selector(".wrp-held", "slider => Number(slider.value)")
    lab.run(page, 1)
    page.get_by_text(f"seen by Python: [[{angle:g}").wait_for()
    assert page.complaints == []


def test_a_group_and_a_link_share_the_frame_and_python_hears_of_it(lab):
    page = lab.open(PLAYERS, "print('seen by Python:', [p.frame for p in (first, second, linked, alone)])")
    page.wait_for_function("document.querySelectorAll('.wrp[data-state=ready]').length === 4")
    page.locator(".wrp-time").first.focus()
    page.keyboard.press("End")
    frames = "[...document.querySelectorAll('.wrp')].map((w) => w.dataset.frame).join()"
    page.wait_for_function(f"{frames} === '3,3,3,0'")
    page.wait_for_timeout(500)  # a follower tells Python when the hand rests
    lab.run(page, 1)
    page.get_by_text("seen by Python: [3, 3, 3, 0]").wait_for()
    assert page.complaints == []


def test_a_kernel_that_dies_in_mid_drag_is_said_and_the_cell_run_again_goes_on(lab):
    page = lab.open(FATAL)
    page.wait_for_selector('.wrp-scrubber[data-state="ready"]')
    straight = pixels(page, ".wrp-scrubber figure:nth-child(2) canvas")
    slider = page.locator(".wrp-held").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for share in (0.45, 0.4, 0.3, 0.2, 0.1, 0.05):  # the wheel turns left to the left
        page.mouse.move(box["x"] + box["width"] * share, y)
        page.wait_for_timeout(100)
    page.get_by_text("appears to have died").wait_for()
    page.mouse.up()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.wait_for_selector('.wrp-scrubber:is([data-state="silent"], [data-state="error"])')
    assert page.text_content(".wrp-scrubber .wrp-state")
    assert float(slider.input_value()) > 0.5  # where the hand left it
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    lab.run(page, 0)
    page.wait_for_selector('.wrp-scrubber[data-state="ready"]')
    assert pixels(page, ".wrp-scrubber figure:nth-child(2) canvas") == straight


def test_the_arrows_drive_through_the_kernel_until_it_dies(lab):
    page = lab.open(DRIVE, "os._exit(1)")
    page.wait_for_selector('.wrp-drive[data-state="ready"]')
    canvas = ".wrp-drive figure:nth-child(2) canvas"
    start = pixels(page, canvas)
    page.focus(".wrp-drive")
    page.keyboard.press(" ")
    page.keyboard.down("ArrowLeft")
    page.wait_for_function("Number(document.querySelector('.wrp-drive').dataset.steps) >= 8")
    page.keyboard.up("ArrowLeft")
    assert pixels(page, canvas) != start
    page.keyboard.press("Escape")
    lab.run(page, 1)
    page.get_by_text("appears to have died").wait_for()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.get_by_role("button", name="Drive", exact=True).click()
    page.wait_for_selector('.wrp-drive:is([data-state="silent"], [data-state="error"])')
    assert page.text_content(".wrp-drive .wrp-state")
