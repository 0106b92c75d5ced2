"""Widgets (anywidget): one .py and one plain ES module of the same name each. May import wamlab.types and wamlab.render only."""

from wamlab_widgets.action_scrubber import ActionScrubber
from wamlab_widgets.drive_view import DriveView
from wamlab_widgets.frontier_explorer import FrontierExplorer
from wamlab_widgets.rollout_player import RolloutPlayer
from wamlab_widgets.scene_browser import SceneBrowser

__all__ = ["ActionScrubber", "DriveView", "FrontierExplorer", "RolloutPlayer", "SceneBrowser"]
