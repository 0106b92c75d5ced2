"""`DriveView`: drive inside a model, frame by frame, with the true world beside it driven by the same actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import traitlets

from wamlab import render
from wamlab.errors import EpisodeEnded, InvalidParameter, InvalidShape, UnknownName
from wamlab_widgets import pixels, profiles
from wamlab_widgets.base import Timed, check_size, data_uri

TRUTH = "truth"
#: What is known of each moment of a row besides its picture.
MEASURES = ("pose", "speed", "error", "note")


class Drive(Protocol):
    """A world that can be driven in: `wamlab.world.episode.Episode`, or a model that stands in for one.

    Both methods return something with `rgb`, (3, H, W), uint8 or float in [-1, 1]; and, where known, `pose` (x_m, y_m, yaw_rad) and
    `speed_mps`. `step` takes (2,), steering-wheel angle (rad, left positive) and acceleration (m/s²), for one step.
    """

    def reset(self) -> Any: ...
    def step(self, action: np.ndarray) -> Any: ...


@dataclass
class Log:
    """A drive so far, N steps. actions: N pairs. rows: what was seen in each world, N + 1 moments or fewer, where it ended or failed.

    Of a row: frames, (H, W, 3) uint8 each; and lists named as in `MEASURES`; failed: why there are no more, '' if there may be.
    """

    actions: list[list[float]] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


class DriveView(Timed):
    """Drive inside a model: each frame that it predicts is what it sees next. The true world beside it is driven by the same actions.

    DriveView({"direct": dream}, truth=episode)

    models    a `Drive`, or several by name: objects with `reset()` and `step(action)`, see `wamlab_widgets.drive_view.Drive`.
    truth     the same, for what really happens.
    recorded  {name: (N, 2) actions}: driven at once and kept, for pages without a kernel; `record` adds one later.
    step_s    seconds a step. trained: as in `ActionScrubber`.
    offline_kb   room in a saved page for recorded drives; those that do not fit are left out, and the page says so.

    Keys: space starts and stops; the arrows (or W A S D) steer, accelerate and brake; stopped, they step through the frames. A gamepad's
    left stick steers, its triggers accelerate and brake.

    And these traits:
    """

    asset = "drive_view"

    styles = traitlets.Dict(help='colour and label by row: {"direct": {"color": "#0072b2", "label": "direct"}}').tag(
        sync=True
    )
    _scene = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        models: Drive | Mapping[str, Drive],
        truth: Drive | None = None,
        *,
        recorded: Mapping[str, Any] | None = None,
        step_s: float = 0.5,
        trained: Mapping[str, Any] | None = None,
        offline_kb: float = 600,
        quality: int = 75,
        **traits: Any,
    ) -> None:
        """`quality`: of the pictures, 1..100. The other arguments are explained by `help()`."""
        check_size(quality, offline_kb)
        drives = dict(models) if isinstance(models, Mapping) else {getattr(models, "name", "model"): models}
        if TRUTH in drives:
            raise InvalidParameter(f"no model may be called {TRUTH!r}; give the true world as truth=…")
        drives = drives if truth is None else {TRUTH: truth} | drives
        for name, drive in drives.items():
            if not (callable(getattr(drive, "reset", None)) and callable(getattr(drive, "step", None))):
                raise InvalidParameter(
                    f"{name!r} must have reset() and step(action), and {type(drive).__name__} has not"
                )
        super().__init__(**traits)
        self._drives, self._quality, self._budget = drives, quality, int(offline_kb * 1000)
        self._shape: tuple[int, ...] | None = None
        self.start()
        span = profiles.ranges(trained)
        self._scene = {
            "size": [int(self._shape[1]), int(self._shape[0])],
            "step_s": float(step_s),
            "rows": list(drives),
            "trained": {name: list(bounds) for name, bounds in span.items()},
            "limits": profiles.limits(span),
        }
        self.drives: dict[str, Log] = {}
        for name, actions in (recorded or {}).items():
            self.record(name, actions)

    def start(self) -> Log:
        """Put every world back to its start. Raises `InvalidShape` if they do not look alike."""
        self.driven = Log()
        for name, drive in self._drives.items():
            self.driven.rows[name] = {"frames": [], "failed": ""} | {m: [] for m in MEASURES}
            self._see(name, drive.reset)
        return self.driven

    def step(self, action: Sequence[float]) -> Log:
        """Drive one step in every world that goes on; one that raises keeps its picture, and says why.

        Raises `InvalidAction` for NaN or another shape.
        """
        asked = profiles.checked([action])[0, :2]
        self.driven.actions.append(asked.round(4).tolist())
        for name, drive in self._drives.items():
            if not self.driven.rows[name]["failed"]:
                try:
                    self._see(name, drive.step, asked)
                except EpisodeEnded as error:
                    self.driven.rows[name]["failed"] = str(error)
                except Exception as error:  # of the user's model: the others go on
                    self.driven.rows[name]["failed"] = f"{type(error).__name__}: {error}"
        return self.driven

    def record(self, name: str, actions: Any) -> Log:
        """Drive these actions (N, 2) from the start, and keep the drive under a name."""
        actions = profiles.checked(actions)
        self.start()
        for action in actions:
            self.step(action[:2])
        self.drives[name] = self.driven
        return self.driven

    def _see(self, name: str, ask: Any, *action: Any) -> None:
        """Ask one world, and write down what is seen."""
        seen, row = ask(*action), self.driven.rows[name]
        rgb = np.moveaxis(np.asarray(seen.rgb.cpu() if hasattr(seen.rgb, "cpu") else seen.rgb), 0, -1)
        if self._shape is None:
            if rgb.ndim != 3 or rgb.shape[2] != 3:
                raise InvalidShape(f"{name!r} must show rgb of (3, H, W), not {np.shape(seen.rgb)}")
            self._shape = rgb.shape
        frame, note = pixels.shown(rgb, self._shape, f"{name!r}")
        true = self.driven.rows.get(TRUTH, {"frames": []})["frames"]
        moment = len(row["frames"])
        row["frames"].append(frame)
        row["note"].append(note)
        row["pose"].append(_plain(getattr(seen, "pose", None)))
        row["speed"].append(_plain(getattr(seen, "speed_mps", None)))
        paired = name != TRUTH and len(true) > moment
        row["error"].append(round(float(pixels.rmse(frame[None], true[moment][None])[0]), 1) if paired else None)

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """{"kind": "start"}, or {"kind": "step", "action": [steering_rad, accel_mps2]} -> the newest picture and measures of each row."""
        kind = message.get("kind")
        if kind not in ("start", "step"):
            raise UnknownName("question", kind, ("start", "step"))
        log = self.start() if kind == "start" else self.step(message.get("action"))
        now = {name: {m: row[m][-1] for m in MEASURES} | {"failed": row["failed"]} for name, row in log.rows.items()}
        pictures = [render.encode_image(row["frames"][-1], "JPEG", self._quality) for row in log.rows.values()]
        return {"mime": "image/jpeg", "rows": now, "steps": len(log.actions)}, pictures

    def static_state(self) -> dict[str, Any]:
        kept, left, spent = [], [], 0
        for name, log in self.drives.items():
            strips = {
                row: data_uri(render.strip(np.stack(seen["frames"]), self._quality)) for row, seen in log.rows.items()
            }
            size = sum(map(len, strips.values()))
            if kept and spent + size > self._budget:
                left.append(name)
                continue
            spent += size
            measured = {row: {k: v for k, v in seen.items() if k != "frames"} for row, seen in log.rows.items()}
            kept.append({"name": name, "actions": log.actions, "strips": strips, "rows": measured})
        state = {name: getattr(self, name) for name in self.trait_help()}
        return state | {"_scene": self._scene, "_drives": kept if self._budget else [], "_left": left}


def _plain(value: Any) -> Any:
    """Numbers that JSON can hold; None for what is unknown or no number."""
    if value is None:
        return None
    array = np.asarray(value, float)
    return None if not np.isfinite(array).all() else array.round(3).tolist()
