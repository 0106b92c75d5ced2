"""`ActionScrubber`: turn the wheel, and the future that each model sees follows."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import traitlets

from wamlab import render
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab_widgets import pixels, profiles
from wamlab_widgets.base import Timed, check_size, data_uri

#: What the user can set of a sampler; a rollout gets those that its signature names.
SETTINGS = ("seed", "steps", "guidance")
TRUTH = "truth"
_KEPT = 128  # rollouts at hand


class Answer(NamedTuple):
    """A rollout that was asked for: (F + 1, H, W, 3) uint8 frames, the present first, and what there is to say about them.

    components: (F + 1, h, w, 3) uint8, the latents as colours, where they are known.
    """

    frames: np.ndarray
    note: str
    components: np.ndarray | None = None


class ActionScrubber(Timed):
    """Draw the actions to come, or choose them; the future that each model predicts for them follows.

    ActionScrubber({"direct": f, "diffusion": g}, present, logged, truth=h)

    rollout   f(actions, seed=…, steps=…, guidance=…) -> frames; one callable, or several by name. `actions` is (F, 3) float32, columns
              `wamlab.types.ACTIONS`; the speed follows from the acceleration. Frames are (F, H, W, 3), uint8 or float in [-1, 1]. Of the
              settings a callable gets those that its signature names; one that takes `steps` is asked for a quick preview first.
              In place of frames it may give an object with `frames` and `components`: (F + 1, h, w, 3), the main components of its
              latents as colours, the present's first.
    present   (H, W, 3) uint8, the frame before all predictions.
    logged    (F, 2 or 3), the actions that were really taken; without them give `horizon`.
    truth     as `rollout`, for what would really have happened, where that is known.
    horizon   F; step_s: seconds from frame to frame; speed_mps: of the present.
    trained   {"steering_rad": (low, high), "accel_mps2": (low, high)}: what lies outside is allowed, and marked.
    offline_kb   room in a saved page for futures computed beforehand, each time the widget is displayed; 0: none.

    And these traits:
    """

    asset = "action_scrubber"

    actions = traitlets.List(help="the profile asked for: F pairs of steering_rad (left positive) and accel_mps2").tag(
        sync=True
    )
    view = traitlets.Enum(
        ("picture", "difference", "onion skin", "latents"),
        "picture",
        help="picture, difference from the truth, onion skin with it, or latents: their main components below the picture",
    ).tag(sync=True)
    seed = traitlets.Int(0, help="of the noise, for models that draw one of several futures").tag(sync=True)
    steps = traitlets.Int(10, min=1, help="of the sampler, for the refined picture").tag(sync=True)
    preview_steps = traitlets.Int(2, min=1, help="of the sampler while the hand moves").tag(sync=True)
    guidance = traitlets.Float(1.0, help="weight of classifier-free guidance; 1 is none").tag(sync=True)
    styles = traitlets.Dict(help='colour and label by row: {"direct": {"color": "#0072b2", "label": "direct"}}').tag(
        sync=True
    )
    _scene = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        rollout: Callable[..., Any] | Mapping[str, Callable[..., Any]],
        present: np.ndarray,
        logged: Any = None,
        *,
        truth: Callable[..., Any] | None = None,
        horizon: int | None = None,
        step_s: float = 0.5,
        speed_mps: float | None = None,
        trained: Mapping[str, Any] | None = None,
        offline_kb: float = 600,
        quality: int = 75,
        **traits: Any,
    ) -> None:
        """`quality`: of the pictures, 1..100. The other arguments are explained by `help()`."""
        check_size(quality, offline_kb)
        self._horizon = 0  # until there is a scene, any profile may be set
        super().__init__(**traits)
        self._quality, self._budget = quality, int(offline_kb * 1000)
        self._kept: OrderedDict[Any, Answer] = OrderedDict()
        about = {"horizon": horizon, "step_s": step_s, "speed_mps": speed_mps, "trained": trained}
        self.look_at(rollout, present, logged, truth=truth, **about)

    def look_at(
        self,
        rollout: Callable[..., Any] | Mapping[str, Callable[..., Any]],
        present: np.ndarray,
        logged: Any = None,
        *,
        truth: Callable[..., Any] | None = None,
        horizon: int | None = None,
        step_s: float = 0.5,
        speed_mps: float | None = None,
        trained: Mapping[str, Any] | None = None,
    ) -> None:
        """Change to another present; the arguments are those of the widget. Actions of another horizon give way to the logged ones.

        Raises `InvalidShape`, `InvalidAction` and `InvalidParameter`.
        """
        rows = dict(rollout) if isinstance(rollout, Mapping) else {getattr(rollout, "name", "prediction"): rollout}
        if TRUTH in rows:
            raise InvalidParameter(f"no rollout may be called {TRUTH!r}; give what really happens as truth=…")
        for name, ask in rows.items() if truth is None else (rows | {TRUTH: truth}).items():
            if not callable(ask):
                raise InvalidParameter(f"{name!r} must be a callable from actions to frames, not {type(ask).__name__}")
        present = np.asarray(present)
        if present.ndim != 3 or present.shape[2] != 3 or present.dtype != np.uint8:
            raise InvalidShape(f"present must be (H, W, 3) uint8, not {present.shape} {present.dtype}")
        if logged is None and not (horizon and horizon > 0):
            raise InvalidParameter("give the logged actions, or a horizon of 1 or more")
        if logged is not None:
            logged = profiles.checked(logged, horizon, "logged")
        span = profiles.ranges(trained)
        reach = profiles.limits(span, logged)

        self._rollouts = rows if truth is None else {TRUTH: truth} | rows
        self._accepts = {name: _accepted(ask) for name, ask in self._rollouts.items()}
        self._present, self._logged, self._step_s = present, logged, float(step_s)
        self._horizon = horizon or len(logged)
        taken = 0.0 if logged is None or logged.shape[1] == 2 else float(logged[0, 2])
        self._speed_mps = taken if speed_mps is None else float(speed_mps)
        self._span = profiles.bounds(span, reach)
        self._presets = profiles.presets(self._horizon, self._span, logged)
        self._kept.clear()
        if self.actions and not self._scene:  # given by the user, before any scene
            profiles.checked(self.actions, self._horizon)
        if len(self.actions) != self._horizon:
            self.actions = next(iter(self._presets.values())).tolist()
        self._scene = {
            "version": self._scene.get("version", 0) + 1,
            "size": [int(present.shape[1]), int(present.shape[0])],
            "times_s": (np.arange(self._horizon + 1) * self._step_s).round(3).tolist(),
            "rows": list(self._rollouts),
            "accepts": {name: list(taken) for name, taken in self._accepts.items()},
            "presets": [{"name": name, "actions": _rounded(p)} for name, p in self._presets.items()],
            "trained": {name: list(b) for name, b in span.items()},
            "limits": reach,
        }

    @traitlets.validate("actions")
    def _finite(self, proposal: Any) -> list[list[float]]:
        if not self._horizon and not proposal.value:
            return proposal.value
        return _rounded(profiles.checked(proposal.value, self._horizon or None))

    def predict(self, row: str, actions: Any, **settings: Any) -> Answer:
        """The future that `row` sees for a profile (F, 2); kept, so that asking again costs nothing.

        Raises what the callable raises, `UnknownName`, `InvalidAction`, and `InvalidShape` for frames of another shape.
        """
        if row not in self._rollouts:
            raise UnknownName("row", row, self._rollouts)
        asked = profiles.checked(_rounded(profiles.checked(actions, self._horizon)))[:, :2]
        taken = {name: settings.get(name, getattr(self, name)) for name in self._accepts[row]}
        key = (row, asked.tobytes(), *taken.items())
        if key not in self._kept:
            full = profiles.with_speed(asked, self._speed_mps, self._step_s, self._logged)
            given = self._rollouts[row](full, **taken)
            components = getattr(given, "components", None)
            frames, note = pixels.shown(
                getattr(given, "frames", given), (self._horizon, *self._present.shape), f"{row!r}"
            )
            if components is not None:
                components, _ = pixels.colours(components, self._horizon + 1, f"{row!r}")
            self._kept[key] = Answer(np.concatenate([self._present[None], frames]), note, components)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def errors(self, row: str, actions: Any, **settings: Any) -> list[float] | None:
        """Root mean square difference from the truth, levels of 0..255, by frame; None where there is no truth, and for it."""
        if row == TRUTH or TRUTH not in self._rollouts:
            return None
        found = pixels.rmse(self.predict(row, actions, **settings).frames, self.predict(TRUTH, actions).frames)
        return [round(float(v), 1) for v in found]

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """{"kind": "rollout" or "errors", "row", "actions", settings…} -> the row's strip, or how far it is from the truth."""
        kind, row, actions = (message.get(k) for k in ("kind", "row", "actions"))
        settings = {name: message[name] for name in SETTINGS if name in message}
        if kind == "errors":
            return {"errors": self.errors(row, actions, **settings)}, []
        if kind != "rollout":
            raise UnknownName("question", kind, ("rollout", "errors"))
        answer = self.predict(row, actions, **settings)
        size, buffers = None, [render.strip(answer.frames, self._quality, "JPEG")]
        if answer.components is not None:
            size = [answer.components.shape[2], answer.components.shape[1]]
            buffers.append(render.strip(answer.components, format="PNG"))
        return {"mime": "image/jpeg", "note": answer.note, "latents": size}, buffers

    def grid(self) -> list[dict[str, Any]]:
        """The futures of a page without a kernel: presets, the actions now set, and held actions as finely as `offline_kb` allows."""
        if not self._budget:
            return []
        points = [self._point(p, name) for name, p in self._presets.items()]
        seen = {str(p["actions"]) for p in points}
        if str(list(self.actions)) not in seen:
            points.append(self._point(np.asarray(self.actions), "as set"))
        each = sum(len(strip) for p in points for strip in p["strips"].values()) / len(points)
        shape = profiles.grid_shape(int((self._budget - sum(p["bytes"] for p in points)) / max(1.0, each)))
        for profile in profiles.grid(self._horizon, self._span, shape) if shape else []:
            if str(_rounded(profile)) not in seen:
                points.append(self._point(profile, ""))
        return points

    def _point(self, profile: np.ndarray, name: str) -> dict[str, Any]:
        """What a page holds of one profile: the latents of a named one only; a row that fails says so."""
        point: dict[str, Any] = {"name": name, "actions": _rounded(profile), "bytes": 0}
        point |= {part: {} for part in ("strips", "latents", "notes", "failed", "errors")}
        for row in self._rollouts:
            try:
                answer = self.predict(row, profile)
                point["strips"][row] = data_uri(render.strip(answer.frames, self._quality))
                point["notes"][row], point["errors"][row] = answer.note, self.errors(row, profile)
                point["bytes"] += len(point["strips"][row])
                if name and (small := answer.components) is not None:
                    packed = data_uri(render.strip(small, format="PNG"), "image/png")
                    point["latents"][row] = {"strip": packed, "size": [small.shape[2], small.shape[1]]}
                    point["bytes"] += len(packed)
            except Exception as error:  # of the user's callable: the other rows go on
                point["failed"][row] = f"{type(error).__name__}: {error}"
        return point

    def static_state(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.trait_help()}
        present = data_uri(render.strip(self._present[None], self._quality))
        return state | {"_scene": self._scene, "_grid": self.grid(), "_present": present}


def _accepted(ask: Callable[..., Any]) -> tuple[str, ...]:
    """The settings that a callable takes."""
    try:
        parameters = inspect.signature(ask).parameters
    except (TypeError, ValueError):  # built in: nothing is known
        return ()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return tuple(name for name in SETTINGS if anything or name in parameters)


def _rounded(actions: Any) -> list[list[float]]:
    """Plain numbers, the first two columns, to four places: what both sides mean by the same actions."""
    return np.asarray(actions, float)[:, :2].round(4).tolist()
