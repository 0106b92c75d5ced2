"""How camera frames become the input of a backbone: resized, cropped and normalised by the numbers of its published processor. No weights.

The numbers are those of `preprocessor_config.json`, as image processors of transformers write it. The work is done with torch alone, on
whatever device the frames are on, because some of those processors cannot be imported without torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import CheckpointMismatch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: Pillow's numbers of the resampling filters that published processors use.
FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocess:
    """Attributes:
    resize: pixels, of the shorter side, or of both sides if `squash`.
    crop: pixels, side of the central square that the backbone sees, at most `resize`.
    resample: one of `FILTERS`, antialiased.
    mean, std: of the three channels, for values in [0, 1].
    squash: stretch frames to a square instead of keeping their proportions; frames that are square already come out the same.
    """

    resize: int
    crop: int
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False

    def __call__(self, frames: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 -> (..., 3, crop, crop) float32."""
        lead, (height, width) = frames.shape[:-3], frames.shape[-2:]
        pixels = frames.reshape(-1, 3, height, width).to(torch.float32, copy=True)
        size = self._size(height, width)
        if size != (height, width):
            pixels = _resize(_resize(pixels, (height, size[1]), self.resample), size, self.resample)
        pixels = _center(pixels, self.crop, self.crop).div_(
            255
        )  # in place: of a clip these copies cost a fifth of the pass
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (self.mean, self.std))
        return pixels.sub_(mean).div_(std).unflatten(0, lead)

    def visible(self, maps: Tensor) -> Tensor:
        """(..., H, W) of whole frames, such as labels -> (..., H', W'): the part that the backbone sees, to the nearest pixel."""
        height, width = maps.shape[-2:]
        resized = self._size(height, width)
        return _center(maps, round(height * self.crop / resized[0]), round(width * self.crop / resized[1]))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.squash:
            return self.resize, self.resize
        short = min(height, width)
        return int(self.resize * height / short), int(self.resize * width / short)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, and transformers' processors too."""
        size = {"height": self.resize, "width": self.resize} if self.squash else {"shortest_edge": self.resize}
        return {
            "do_resize": True,
            "size": size,
            "resample": next(number for number, name in FILTERS.items() if name == self.resample),
            "do_center_crop": not self.squash,
            "crop_size": {"height": self.crop, "width": self.crop},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @staticmethod
    def from_json(numbers: Mapping[str, Any], default: Preprocess) -> Preprocess:
        """The content of a `preprocessor_config.json`; what it does not say is as in `default`.

        Raises `CheckpointMismatch` for numbers that this class cannot follow.
        """
        size = numbers.get("size", default.resize)
        resize = _side(size)
        squash = isinstance(size, Mapping) and "height" in size if "size" in numbers else default.squash
        crops = numbers.get("do_center_crop", not squash) and not squash
        crop = min(resize, _side(numbers.get("crop_size", default.crop))) if crops else resize
        resample = FILTERS.get(numbers["resample"]) if "resample" in numbers else default.resample
        if resample is None:
            raise CheckpointMismatch(f"resample must be one of {FILTERS}, not {numbers['resample']}")
        mean, std = numbers.get("image_mean", default.mean), numbers.get("image_std", default.std)
        return Preprocess(resize, crop, resample, tuple(mean), tuple(std), squash)


def _side(size: Any) -> int:
    """The side in `224`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`."""
    sides = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(sides) != 1 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise CheckpointMismatch(f"a processor's size must be one number of pixels for both sides, not {size}")
    return sides.pop()


def _resize(pixels: Tensor, size: tuple[int, int], resample: str) -> Tensor:
    """As Pillow does it: in whole levels after each axis, halves rounded up."""
    return (F.interpolate(pixels, size, mode=resample, antialias=True) + 0.5).floor().clamp(0, 255)


def _center(maps: Tensor, height: int, width: int) -> Tensor:
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]
