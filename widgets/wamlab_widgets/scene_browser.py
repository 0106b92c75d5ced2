"""`SceneBrowser`: find a drive in a dataset by how it looks, what is known of it, and what the driver did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import traitlets

from wamlab import render
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.types import ACTIONS, Scene
from wamlab_widgets.base import Widget, check_size, data_uri

#: Points of a trace; more cannot be told apart in it.
_POINTS = 24


class SceneBrowser(Widget):
    """Find a drive by how it looks, what is known of it, and what the driver did. `choice` is its name, `scene` the drive itself.

    SceneBrowser(dataset.scenes())

    scenes    of a dataset.
    thumbnail   scene -> (H, W, 3) uint8 of one size; by default the middle frame, `width` pixels wide.
    offline_kb   room in a saved page for thumbnails; drives beyond it are shown without one, and the page says so.

    Another widget follows the choice with `browser.observe(lambda change: …browser.scene…, "choice")`.

    And these traits:
    """

    asset = "scene_browser"

    choice = traitlets.Unicode("", help="name of the chosen scene, '' for none").tag(sync=True)
    search = traitlets.Unicode("", help="words that must be in the name, the description or an attribute").tag(
        sync=True
    )
    filters = traitlets.Dict(help='{attribute: value} that a scene must have: {"time": "night"}; `split` is one').tag(
        sync=True
    )
    order = traitlets.Unicode("name", help="name, or what to sort by, largest first: steering, braking, speed").tag(
        sync=True
    )
    _catalog = traitlets.List().tag(sync=True)

    def __init__(
        self,
        scenes: Sequence[Scene] = (),
        thumbnail: Callable[[Scene], np.ndarray] | None = None,
        *,
        width: int = 160,
        offline_kb: float = 600,
        quality: int = 70,
        **traits: Any,
    ) -> None:
        """`width`, `quality`: of the thumbnails, pixels and 1..100. The other arguments are explained by `help()`."""
        check_size(quality, offline_kb)
        if width < 1:
            raise InvalidParameter(f"width must be 1 or more, not {width}")
        self._scenes = {scene.name: scene for scene in scenes}
        super().__init__(**traits)
        self._thumbnail = thumbnail or (lambda scene: _middle_frame(scene, width))
        self._quality, self._budget = quality, int(offline_kb * 1000)
        self._kept: dict[str, bytes] = {}
        self._catalog = [_described(scene) for scene in self._scenes.values()]

    @property
    def scene(self) -> Scene | None:
        """The chosen scene; None where none is chosen."""
        return self._scenes.get(self.choice)

    @traitlets.validate("choice")
    def _known(self, proposal: Any) -> str:
        if proposal.value and proposal.value not in self._scenes:
            raise UnknownName("scene", proposal.value, list(self._scenes)[:8] + ["…"] * (len(self._scenes) > 8))
        return proposal.value

    @traitlets.validate("order")
    def _orders(self, proposal: Any) -> str:
        if proposal.value not in (known := ("name", "steering", "braking", "speed")):
            raise UnknownName("order", proposal.value, known)
        return proposal.value

    def picture(self, name: str) -> bytes:
        """The thumbnail of a scene, a WebP file."""
        if name not in self._scenes:
            raise UnknownName("scene", name, self._scenes)
        if name not in self._kept:
            self._kept[name] = render.encode_image(self._thumbnail(self._scenes[name]), "WEBP", self._quality)
        return self._kept[name]

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """{"kind": "thumbnail", "name": …} -> the picture."""
        if message.get("kind") != "thumbnail":
            raise UnknownName("question", message.get("kind"), ("thumbnail",))
        return {"mime": "image/webp"}, [self.picture(message.get("name"))]

    def static_state(self) -> dict[str, Any]:
        pictures, spent = {}, 0
        for name in self._scenes:
            try:
                packed = data_uri(self.picture(name))
            except Exception as error:  # a damaged image: the others are shown
                pictures[name] = f"failed: {error}"
                continue
            spent += len(packed)
            if spent > self._budget:
                break
            pictures[name] = packed
        state = {name: getattr(self, name) for name in self.trait_help()}
        return state | {"_catalog": self._catalog, "_pictures": pictures}


def _described(scene: Scene) -> dict[str, Any]:
    """What is known of a scene, as plain JSON: traces of the actions, and what it can be sorted by."""
    actions = np.asarray(scene.actions, float)
    at = np.linspace(0, len(actions) - 1, min(_POINTS, len(actions))).round().astype(int)
    traces = {name: [round(v, 2) if np.isfinite(v) else None for v in actions[at, i]] for i, name in enumerate(ACTIONS)}
    steering, accel, speed = (actions[np.isfinite(actions[:, i]), i] for i in range(len(ACTIONS)))
    return {
        "name": scene.name,
        "about": scene.description,
        "attributes": {"split": scene.split} | dict(scene.attributes),
        "seconds": round(float(scene.timestamps_s[-1] - scene.timestamps_s[0]), 1) if len(scene) else 0,
        "traces": traces,
        "steering": round(float(np.abs(steering).max(initial=0)), 2),
        "braking": round(float(-accel.min(initial=0)), 2),
        "speed": round(float(speed.mean()), 2) if len(speed) else 0,
    }


def _middle_frame(scene: Scene, width: int) -> np.ndarray:
    """(H, W, 3) uint8, the frame in the middle of a scene, `width` pixels wide. Raises `InvalidParameter` for a scene without images."""
    from PIL import Image

    if not scene.image_paths:
        raise InvalidParameter(f"{scene.name} has no images; give thumbnail=… a function of the scene")
    with Image.open(scene.image_paths[len(scene.image_paths) // 2]) as image:
        height = max(1, round(image.height * width / image.width))
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
