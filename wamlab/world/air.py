"""Air and light: the sky, haze, rain, the glow around lamps, and from linear light to bytes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.world.texture import mix, noise, wrap
from wamlab.world.weather import Look


def colours_of(look: Look, device: torch.device) -> dict[str, Tensor]:
    """The colours of a look as (3, 1) tensors."""
    names = ("sun", "sunlight", "ambient", "zenith", "horizon", "haze")
    return {n: torch.as_tensor(getattr(look, n), dtype=torch.float32, device=device)[:, None] for n in names}


def in_haze(colour: Tensor, distance: Tensor, look: Look, lights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What air does to colours (3, P) at a distance (P,); and how much of the light comes through."""
    clear = torch.exp(-look.haze_per_m * distance)
    return mix(lights["haze"], colour, clear), clear


def sky(ray: Tensor, look: Look, lights: dict[str, Tensor], tile: Tensor) -> Tensor:
    d = ray / ray.square().sum(0).sqrt()
    up = d[2].clamp(min=0)
    colour = mix(lights["horizon"], lights["zenith"], (up / (up + 0.18)) ** 0.9)
    x, y = d[0] / (up + 0.12), d[1] / (up + 0.12)
    shape = noise(tile, x + 9.0, y + 5.0, 0.045) + 0.35 * noise(tile, x, y, 0.012)
    cover = torch.sigmoid((shape - 1.6 + 2.6 * look.cloud) * 2.2) * (up * 9).clamp(max=1)
    if look.weather != "clear":
        return colour * (1 + 0.16 * (cover - 0.5) * (look.cloud > 0))
    towards = (d * lights["sun"]).sum(0).clamp(min=0)
    colour = colour + (0.125 * towards**8 + 0.45 * towards**200) * lights["sunlight"]
    return mix(colour, 0.55 * lights["ambient"] + 0.32 * lights["sunlight"], 0.75 * cover)


def bloom(emitted: Tensor, pixel: Tensor, b: int, h: int, w: int) -> Tensor:
    """(3, B, H, W) light that spills around lamps: what the pixels (P,) emit (3, P), blurred at a quarter of the resolution.

    Summed as integers, so the result does not depend on the order of the sums.
    """
    rows, columns = -(-h // 4), -(-w // 4)
    bright = torch.nonzero(emitted[0] > 1e-3)[:, 0]
    emitted, pixel = emitted.index_select(1, bright), pixel.index_select(0, bright)
    line = torch.div(pixel, w, rounding_mode="floor")
    frame = torch.div(line, h, rounding_mode="floor")
    place = (frame * rows + (line - frame * h) // 4) * columns + (pixel - line * w) // 4
    small = torch.zeros(3, b * rows * columns, dtype=torch.int32, device=emitted.device)
    small.index_add_(1, place, (emitted * 4096).int())
    soft = F.avg_pool2d(small.float().mul_(1 / 65536).view(3, b, rows, columns), 3, stride=1, padding=1)
    wide = F.avg_pool2d(F.avg_pool2d(soft, (1, 7), stride=1, padding=(0, 3)), (7, 1), stride=1, padding=(3, 0))
    return F.interpolate(0.28 * soft + 0.3 * wide, size=(h, w), mode="bilinear", align_corners=False)


def streaks(b: int, h: int, w: int, phase: Tensor) -> Tensor:
    """(B, H, W) falling rain: short vertical streaks whose places depend on the phase alone."""
    x, y = torch.arange(w, device=phase.device), torch.arange(h, device=phase.device)
    column = wrap(torch.sin(x * 12.9898) * 43758.5453, 1.0)
    wet = torch.nonzero(column > 0.72)[:, 0]
    fall = wrap(y[:, None] / h * 1.7 + column[wet] * 7.3 + phase[:, None, None] * 13.7, 1.0)
    return torch.zeros(b, h, w, device=phase.device).index_copy(2, wet, (fall - 0.9).clamp(min=0) * 10)


def to_srgb(linear: Tensor, exposure: float) -> Tensor:
    """Linear light times exposure -> sRGB bytes, highlights rolled off.

    By table: 12 bits of the square root are finer than a byte everywhere.
    """
    grid = torch.linspace(0, 1, 4096, device=linear.device) ** 2 * 8.0
    c = (grid * (1 + grid / 6.25) / (1 + grid) * 1.35).clamp(max=1)
    table = torch.where(c <= 0.0031308, 12.92 * c, 1.055 * c.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
    index = (linear * (exposure / 8.0)).clamp_(0, 1).sqrt_().mul_(4095).add_(0.5).int()
    return (table * 255 + 0.5).to(torch.uint8).index_select(0, index.reshape(-1)).view(linear.shape)
