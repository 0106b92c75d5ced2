"""`RolloutPlayer`: the same future as each model sees it, side by side, scrubbed together."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from wamlab import render
from wamlab.errors import InvalidAction, InvalidShape, UnknownName
from wamlab.types import ACTIONS
from wamlab_widgets.base import Timed, check_size, data_uri

_ACTION_LABELS = {
    "steering_rad": {"label": "steering wheel", "unit": "rad", "signed": True},
    "accel_mps2": {"label": "acceleration", "unit": "m/s²", "signed": True},
    "speed_mps": {"label": "speed", "unit": "m/s", "signed": False},
}


class RolloutPlayer(Timed):
    """The same future as each model sees it, side by side: scrub, play or step with the arrow keys.

    `scenes` is a list of
        {"name": "scene-0103",
         "rows": {"truth": (T, H, W, 3) uint8, "direct": …},   frame 0 is the present, then t+1 .. t+F
         "errors": {"direct": (T,), …},                        optional; NaN where there is none
         "motion": {"truth": (T,), "direct": (T,), …},         optional; how much moves, the truth's drawn behind the others
         "actions": (T, 3) or (T - 1, 3),                      optional; columns `wamlab.types.ACTIONS`
         "times_s": (T,)}                                      seconds from the present

    The time can be shared. Whatever names the same `group` moves together, in a page without a kernel, too: other widgets, and a line in
    every plotly figure whose x is in seconds and that says `fig.update_layout(meta={"group": "drive"})`. In Python it is a trait:
    `player.observe(lambda change: print(change.new), "frame")`, or `ipywidgets.jslink((player, "frame"), (other, "frame"))`.
    Buttons save what is shown as a picture or a film.

    Keys: left and right step through the frames, space plays, page up and down change the scene. And these traits:
    """

    asset = "rollout_player"

    scene = traitlets.Int(0, help="index of the scene shown").tag(sync=True)
    truth = traitlets.Unicode("truth", help="name of the row that the others are compared with").tag(sync=True)
    metric = traitlets.Unicode("error ↓", help="what the errors are, with an arrow towards better").tag(sync=True)
    motion = traitlets.Unicode("motion", help="what the motion is, with its unit").tag(sync=True)
    styles = traitlets.Dict(help='colour and label by row: {"direct": {"color": "#0072b2", "label": "direct"}}').tag(
        sync=True
    )
    _catalog = traitlets.List().tag(sync=True)

    def __init__(self, scenes: Sequence[Mapping[str, Any]] = (), *, quality: int = 80, **traits: Any) -> None:
        """`quality`: of the pictures, 1..100; the other arguments are the traits that `help()` lists."""
        check_size(quality)
        super().__init__(**traits)
        self._quality = quality
        self._catalog = [_describe(scene) for scene in scenes]
        self._frames = [{name: np.asarray(frames) for name, frames in scene["rows"].items()} for scene in scenes]
        self._strips: dict[tuple[int, str], bytes] = {}

    @traitlets.validate("scene")
    def _a_scene(self, proposal: Any) -> int:
        if proposal.value < 0:
            raise traitlets.TraitError(f"scene must be 0 or more, not {proposal.value}")
        return proposal.value

    def strip(self, scene: int, row: str) -> bytes:
        """The frames of one row as a WebP strip."""
        key = (scene, row)
        if key not in self._strips:
            self._strips[key] = render.strip(self._frames[scene][row], self._quality)
        return self._strips[key]

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """{"kind": "strips", "scene": i} -> the strips of that scene's rows, in order."""
        index = message.get("scene")
        if message.get("kind") != "strips" or not isinstance(index, int) or not 0 <= index < len(self._frames):
            raise UnknownName("scene", index, range(len(self._frames)))
        rows = self._frames[index]
        return {"mime": "image/webp", "rows": list(rows)}, [self.strip(index, row) for row in rows]

    def static_state(self) -> dict[str, Any]:
        names = [n for n in self.trait_help()]
        strips = [{row: data_uri(self.strip(i, row)) for row in rows} for i, rows in enumerate(self._frames)]
        return {name: getattr(self, name) for name in names} | {"_catalog": self._catalog, "_strips": strips}

    def contact_sheet(self, columns: int = 4) -> bytes:
        """A JPEG of the first scene, rows below each other at evenly spaced times: for viewers that show pictures only."""
        rows = list(self._frames[0].values())
        times = np.unique(np.linspace(0, len(rows[0]) - 1, columns).round().astype(int))
        return render.encode_image(render.tile(np.concatenate([frames[times] for frames in rows]), len(times)))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if self._frames:
            data["image/jpeg"] = base64.b64encode(self.contact_sheet()).decode()
        return data, metadata


def _describe(scene: Mapping[str, Any]) -> dict[str, Any]:
    """A scene without its pixels, checked, as plain JSON."""
    name = str(scene.get("name", "scene"))
    rows = {row: np.asarray(frames) for row, frames in scene.get("rows", {}).items()}
    if not rows:
        raise InvalidShape(f"{name} has no rows; give at least one: rows={{'truth': (T, H, W, 3) uint8}}")
    shape = next(iter(rows.values())).shape
    for row, frames in rows.items():
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise InvalidShape(
                f"{name}, row {row!r}: frames must be (T, H, W, 3) uint8, not {frames.shape} {frames.dtype}"
            )
        if frames.shape != shape:
            raise InvalidShape(
                f"{name}, row {row!r}: frames are {frames.shape}, those of the first row {shape}; give all rows the same"
            )
    count = shape[0]
    times = np.asarray(scene.get("times_s", np.arange(count)), float)
    if times.shape != (count,):
        raise InvalidShape(f"{name}: times_s must be ({count},), one for each frame, not {times.shape}")
    return {
        "name": name,
        "note": str(scene.get("note", "")),
        "size": [int(shape[2]), int(shape[1])],
        "times_s": times.round(3).tolist(),
        "rows": list(rows),
        "errors": _by_row(name, "errors", scene.get("errors", {}), rows, count),
        "motion": _by_row(name, "motion", scene.get("motion", {}), rows, count),
        "actions": _traces(name, scene.get("actions"), count),
    }


def _by_row(
    name: str, what: str, given: Mapping[str, Any], rows: Mapping[str, Any], count: int
) -> dict[str, list[float | None]]:
    """A number for each frame of some rows, checked."""
    found = {row: np.asarray(values, float) for row, values in given.items()}
    for row, values in found.items():
        if row not in rows:
            raise UnknownName("row", row, rows)
        if values.shape != (count,):
            raise InvalidShape(f"{name}, {what} of {row!r} must be ({count},), not {values.shape}")
    return {row: _plain(values) for row, values in found.items()}


def _traces(name: str, actions: Any, count: int) -> list[dict[str, Any]]:
    """Each action column with its label and unit; the action at frame t leads to frame t + 1, so the last frame may have none."""
    if actions is None:
        return []
    array = np.asarray(actions, float)
    if array.ndim != 2 or array.shape[1] != len(ACTIONS) or array.shape[0] not in (count, count - 1):
        raise InvalidAction(f"{name}: actions must be ({count} or {count - 1}, {len(ACTIONS)}), not {array.shape}")
    padded = np.full((count, len(ACTIONS)), np.nan)
    padded[: len(array)] = array
    return [{**_ACTION_LABELS[column], "values": _plain(padded[:, i])} for i, column in enumerate(ACTIONS)]


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]
