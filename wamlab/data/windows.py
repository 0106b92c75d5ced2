"""Windows of a scene: which there are, one as frames, and all of a split as latents for training.

A window at t has the frames t-C+1 .. t (context) and t+1 .. t+F (future) and never leaves its scene.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wamlab.data.dataset import OnDamage
from wamlab.data.frames import load_frames
from wamlab.data.latents import LatentStore
from wamlab.errors import HorizonTooLong, ImageDamaged, InvalidAction, InvalidParameter
from wamlab.geometry import to_ego_frame
from wamlab.types import Batch, Scene, Window

#: A route that ends further aside than this is a turn.
TURN_M = 2.0

#: context (C, c, h, w), future (F, c, h, w), actions (F, A), scene, start.
LatentWindow = tuple[Tensor, Tensor, Tensor, str, int]


def window_starts(scene: Scene, num_context: int, horizon: int, stride: int = 1) -> list[int]:
    """The present frames t, `stride` apart, of the windows that fit into the scene and whose actions are all known."""
    if num_context < 1 or horizon < 1 or stride < 1:
        raise InvalidParameter(
            f"num_context, horizon and stride must be at least 1, not {num_context}, {horizon}, {stride}"
        )
    known = np.isfinite(scene.actions).all(axis=1)
    starts = range(num_context - 1, len(scene) - horizon, stride)
    return [t for t in starts if known[t : t + horizon].all()]


def window_actions(scene: Scene, start: int, horizon: int, num_context: int = 1) -> np.ndarray:
    """(F, A) float32, a_t .. a_{t+F-1}.

    Raises:
        HorizonTooLong: the window leaves the scene.
        InvalidAction: an action is NaN or infinite.
    """
    first, last = num_context - 1, len(scene) - 1 - horizon
    if not first <= start <= last:
        allowed = f"a present frame of {first} to {last}" if first <= last else "a shorter window"
        raise HorizonTooLong(
            f"no window of {num_context} + {horizon} frames at {start} in {scene.name} of {len(scene)} frames: choose {allowed}"
        )
    actions = scene.actions[start : start + horizon]
    unknown = np.flatnonzero(~np.isfinite(actions).all(axis=1))
    if len(unknown):
        raise InvalidAction(
            f"the action at frame {start + unknown[0]} of {scene.name} is {actions[unknown[0]].tolist()}: "
            "choose a start from window_starts(scene, …), which leaves such windows out"
        )
    return actions.astype(np.float32)


def trajectory(scene: Scene, start: int, horizon: int) -> np.ndarray:
    """(F, 2) float32: where the ego is at t+1 .. t+F, x_m forward and y_m left in its frame at t = `start`."""
    future = scene.ego_pose[start + 1 : start + horizon + 1, :2]
    return to_ego_frame(future, scene.ego_pose[start]).astype(np.float32)


def command(scene: Scene, start: int, horizon_s: float) -> str:
    """Where the route goes: `left` or `right` if the ego is more than `TURN_M` aside after `horizon_s` seconds, else `straight`.

    Raises `HorizonTooLong` if the scene ends before that.
    """
    present_s = scene.timestamps_s[start]
    left_s = scene.timestamps_s[-1] - present_s
    if horizon_s > left_s + 1e-3:
        raise HorizonTooLong(f"{scene.name} goes on for {left_s:.1f} s after frame {start}, not for {horizon_s:.1f} s")
    then = [np.interp(present_s + horizon_s, scene.timestamps_s, scene.ego_pose[:, axis]) for axis in (0, 1)]
    lateral_m = to_ego_frame(then, scene.ego_pose[start])[1]
    return "left" if lateral_m > TURN_M else "right" if lateral_m < -TURN_M else "straight"


def load_window(scene: Scene, start: int, num_context: int, horizon: int, resolution: int) -> Window:
    """The window at the present frame `start`, its images at `resolution` pixels; raises as `window_actions` and `load_frames`."""
    actions = window_actions(scene, start, horizon, num_context)
    frames = load_frames(scene, range(start - num_context + 1, start + horizon + 1), resolution)
    horizon_s = float(scene.timestamps_s[start + horizon] - scene.timestamps_s[start])
    return Window(
        context=frames[:num_context],
        future=frames[num_context:],
        actions=torch.from_numpy(actions),
        trajectory=torch.from_numpy(trajectory(scene, start, horizon)),
        command=command(scene, start, horizon_s),
        scene=scene.name,
        start=start,
    )


class LatentWindows(torch.utils.data.Dataset[LatentWindow]):
    """Every window of some scenes, as latents from a store; what is missing there is encoded first.

    `index` lists (scene, start) in order. Windows with an unknown action are left out, with one warning; so are scenes with damaged
    images if `on_damage` is "skip" (see `LatentStore.fill`).

    Raises:
        HorizonTooLong: no scene is long enough.
        ImageDamaged: an image is damaged, and `on_damage` is "refuse" or no window is left.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        store: LatentStore,
        num_context: int,
        horizon: int,
        stride: int = 1,
        progress: bool = False,
        on_damage: OnDamage = "refuse",
    ) -> None:
        self.scenes = {scene.name: scene for scene in scenes}
        self.store, self.num_context, self.horizon = store, num_context, horizon
        self.index = [(scene.name, t) for scene in scenes for t in window_starts(scene, num_context, horizon, stride)]
        if not self.index:
            longest = max((len(scene) for scene in scenes), default=0)
            raise HorizonTooLong(
                f"no window of {num_context} + {horizon} frames in {len(scenes)} scenes of at most {longest} frames"
            )
        unknown = [scene.name for scene in scenes if not np.isfinite(scene.actions).all()]
        if unknown:
            warnings.warn(f"windows left out where the action is unknown, in {', '.join(unknown)}", stacklevel=2)
        left_out = store.fill(scenes, progress, on_damage)
        self.index = [(name, t) for name, t in self.index if name not in left_out]
        if not self.index:
            raise ImageDamaged(f"no window is left: images of {', '.join(sorted(left_out))} are damaged")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> LatentWindow:
        name, t = self.index[i]
        latents = self.store.read(name)[t - self.num_context + 1 : t + self.horizon + 1].float()
        actions = torch.from_numpy(window_actions(self.scenes[name], t, self.horizon, self.num_context))
        return latents[: self.num_context], latents[self.num_context :], actions, name, t


def collate(windows: Sequence[LatentWindow]) -> Batch:
    """Stack windows of equal lengths: context (B, C, c, h, w), future (B, F, c, h, w), actions (B, F, A)."""
    context, future, actions, scenes, starts = zip(*windows, strict=True)
    return Batch(torch.stack(context), torch.stack(future), torch.stack(actions), scenes, starts)
