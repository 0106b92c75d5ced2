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


def test_the_wheel_turns_the_future_through_the_kernel(lab):
    page = lab.open(SCRUBBER, "widget.actions")
    page.wait_for_selector('.wrp-scrubber[data-state="ready"]')
    page.screenshot(path="/tmp/lab.png")
