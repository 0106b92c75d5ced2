"""`FrontierExplorer`: the perception-distortion plane, and what each of its points looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from wamlab import render
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab_widgets import pixels
from wamlab_widgets.base import Widget, check_size, data_uri

#: What is known of a point; `model`, `x` and `y` must be.
KEYS = ("model", "setting", "x", "y", "samples", "card", "calibration", "note", "on_frontier")


class FrontierExplorer(Widget):
    """The perception-distortion plane: choose a point, and see its samples, its calibration and its metric card.

    FrontierExplorer(points, truth=frames)

    points    a list of dicts:
        {"model": "diffusion", "setting": "guidance 2",
         "x": (value, low, high), "y": (value, low, high),     the interval may be NaN where it is unknown
         "samples": (N, H, W, 3),                              optional; uint8, or float in [-1, 1]
         "card": {"RMSE ↓": "12.3 (11.8 to 12.9)"},            optional; shown as it is
         "calibration": {"labels": […], "values": […]},        optional; predicted over true standard deviation, by channel
         "note": str, "on_frontier": bool}                     optional
      Those of one model are joined by a line, in their order.
    truth     (N, H, W, 3) of the same windows, shown above the samples. labels: of the N columns.
    offline_kb   room in a saved page for samples; points beyond it are shown without theirs, and the page says so.

    Keys: left and right go to the next point along x, up and down along y. `chosen` can be observed, and set.

    And these traits:
    """

    asset = "frontier_explorer"

    chosen = traitlets.Int(0, help="index of the chosen point").tag(sync=True)
    x_label = traitlets.Unicode("cosine similarity to the truth", help="what x is, with its unit").tag(sync=True)
    y_label = traitlets.Unicode("kernel distance from real frames", help="what y is, with its unit").tag(sync=True)
    x_better = traitlets.Unicode("nearer to the truth →", help="which way along x is better, in words").tag(sync=True)
    y_better = traitlets.Unicode("↓ more like real frames", help="which way along y is better, in words").tag(sync=True)
    log_y = traitlets.Bool(False, help="whether y is drawn on a logarithmic axis").tag(sync=True)
    labels = traitlets.List(traitlets.Unicode(), help="of the columns of samples: what each window is").tag(sync=True)
    styles = traitlets.Dict(help='colour and label by model: {"direct": {"color": "#0072b2", "label": "direct"}}').tag(
        sync=True
    )
    _catalog = traitlets.List().tag(sync=True)
    _scene = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        points: Sequence[Mapping[str, Any]] = (),
        truth: Any = None,
        *,
        offline_kb: float = 600,
        quality: int = 75,
        **traits: Any,
    ) -> None:
        """`quality`: of the pictures, 1..100. The other arguments are explained by `help()`."""
        check_size(quality, offline_kb)
        self._count = len(points)
        super().__init__(**traits)
        self._quality, self._budget = quality, int(offline_kb * 1000)
        catalog = [_described(i, point) for i, point in enumerate(points)]
        if self.log_y and (low := [p["model"] for p in catalog if p["y"][0] <= 0]):
            raise InvalidParameter(f"log_y needs y above 0, and that of {', '.join(low)} is not; leave log_y=False")
        self._truth, self._samples, shape = None, {}, None
        if truth is not None:
            shape = np.shape(truth)
            self._truth, _ = _pictures(truth, shape, "truth")
        for i, point in enumerate(points):
            if point.get("samples") is not None:
                shape = np.shape(point["samples"]) if shape is None else shape
                self._samples[i], catalog[i]["broken"] = _pictures(point["samples"], shape, catalog[i]["title"])
                catalog[i]["sampled"] = True
        count = shape[0] if shape else 0
        if self.labels and len(self.labels) != count:
            raise InvalidShape(f"labels must be {count}, one for each column of samples, not {len(self.labels)}")
        self._scene = {
            "columns": count,
            "size": [int(shape[2]), int(shape[1])] if shape else [],
            "truth": truth is not None,
        }
        self._catalog = catalog

    @traitlets.validate("chosen")
    def _known(self, proposal: Any) -> int:
        if not 0 <= proposal.value < max(1, self._count):
            raise traitlets.TraitError(f"chosen must be 0 .. {self._count - 1}, a point, not {proposal.value}")
        return proposal.value

    def strip(self, index: int | None) -> bytes:
        """A point's samples, or for None the truth, as a WebP strip."""
        return render.strip(self._truth if index is None else self._samples[index], self._quality)

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """{"kind": "samples", "point": i} or {"kind": "truth"} -> the strip."""
        kind, index = message.get("kind"), message.get("point")
        if kind not in ("samples", "truth"):
            raise UnknownName("question", kind, ("samples", "truth"))
        if kind == "samples" and index not in self._samples:
            raise UnknownName("point with samples", index, self._samples)
        return {"mime": "image/webp"}, [self.strip(index if kind == "samples" else None)]

    def static_state(self) -> dict[str, Any]:
        pictures = {"truth": data_uri(self.strip(None))} if self._truth is not None and self._budget else {}
        spent = sum(map(len, pictures.values()))
        nearest = sorted(self._samples, key=lambda i: i != self.chosen)  # the chosen one comes first
        for i in nearest:
            packed = data_uri(self.strip(i))
            spent += len(packed)
            if spent > self._budget:
                break
            pictures[str(i)] = packed
        state = {name: getattr(self, name) for name in self.trait_help()}
        return state | {"_catalog": self._catalog, "_scene": self._scene, "_pictures": pictures}


def _pictures(frames: Any, shape: tuple[int, ...], who: str) -> tuple[np.ndarray, str]:
    """(N, H, W, 3) uint8, and what there is to say about them. Raises `InvalidShape`."""
    if len(shape) != 4 or shape[3] != 3 or not shape[0]:
        raise InvalidShape(f"{who}: samples must be (N, H, W, 3) with N > 0, not {shape}")
    return pixels.shown(frames, shape, who)


def _described(index: int, point: Mapping[str, Any]) -> dict[str, Any]:
    """A point without its pixels, checked, as plain JSON."""
    if unknown := [key for key in point if key not in KEYS]:
        raise InvalidParameter(f"point {index} has {', '.join(map(repr, unknown))}; known: {', '.join(KEYS)}")
    if missing := [key for key in ("model", "x", "y") if key not in point]:
        raise InvalidParameter(f"point {index} has no {' and no '.join(missing)}; give model, x and y")
    model, setting = str(point["model"]), str(point.get("setting", ""))
    title = f"{model}, {setting}" if setting else model
    calibration = point.get("calibration")
    return {
        "model": model,
        "setting": setting,
        "title": title,
        "x": _interval(point["x"], f"{title}: x"),
        "y": _interval(point["y"], f"{title}: y"),
        "card": [[str(name), str(text)] for name, text in (point.get("card") or {}).items()],  # in this order
        "calibration": None if calibration is None else _ratios(calibration, title),
        "note": str(point.get("note") or ""),
        "on_frontier": bool(point.get("on_frontier", False)),
        "sampled": False,
        "broken": "",
    }


def _interval(given: Any, what: str) -> list[float | None]:
    """[value, low, high], an unknown bound None. Raises `InvalidParameter`."""
    try:
        value, low, high = (float(v) for v in given)
    except (TypeError, ValueError):
        raise InvalidParameter(f"{what} must be (value, low, high), not {given!r:.80}") from None
    if not np.isfinite(value) or low > high:
        raise InvalidParameter(f"{what} must be a finite value with low <= high, not {given!r:.80}")
    return [value, *(v if np.isfinite(v) else None for v in (low, high))]


def _ratios(given: Mapping[str, Any], title: str) -> dict[str, list[Any]]:
    """{"labels", "values"} of one length, values above zero or None. Raises `InvalidShape` and `InvalidParameter`."""
    labels, values = [str(v) for v in given.get("labels", ())], np.asarray(given.get("values", ()), float)
    if values.shape != (len(labels),) or not labels:
        raise InvalidShape(f"{title}: calibration needs as many labels as values, not {len(labels)} and {values.shape}")
    if (values <= 0).any():
        raise InvalidParameter(f"{title}: calibration must be ratios above 0, not {values.min():g}")
    return {"labels": labels, "values": [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]}
