"""The present as it looks from where the actions lead: an anchor that moves with the ego vehicle."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.data.latents import device_of
from wamlab.models.blocks import Standardize
from wamlab.types import ACTIONS, Codec

#: Of `EgoMotion.fit`: windows in a step of Adam, its steps for the motion and for the warp.
FIT_BATCH, MOTION_STEPS, WARP_STEPS = 16, 150, 400
#: The relief is kept as a logarithm divided by this, so that it learns this many times faster than weights do; and one that is far away.
FAST, FAR = 20.0, -20.0


class EgoMotion(nn.Module):
    """Latents warped by a camera's own motion through a fixed relief (not of the paper, whose anchor stands still).

    With v the speed and δ the steering of each action, the vehicle has come s = Σ v frames · m/s far and has turned by ψ = κ Σ v δ (a
    bicycle model for small angles). What is seen at p = (x, y) then was seen at c + (p - c) / (1 + s q(p)) - (ψ, 0) in the present, where
    the relief q is the inverse depth, the same in every scene. What is moved are features on a grid `scale` times finer than the
    latents', since their channels change with shifts of less than a latent. Other vehicles, and depths that are not the usual ones, are
    left to what predicts the change from this anchor. `fit` decides all parameters, and training leaves them; before `fit`, and where the
    vehicle stands, the present is returned.
    """

    def __init__(self, channels: int, size: int, scale: int = 4, features: int = 8, hidden: int = 96) -> None:
        super().__init__()
        self.scale, self.features = scale, features
        width = features * scale**2
        self.unfold = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, width, 1))
        self.fold = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 3, padding=1))
        for layer in (self.unfold[-1], self.fold[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.log_relief = nn.Parameter(torch.full((1, 1, size, size), FAR / FAST))
        self.turning = nn.Parameter(torch.zeros(()))
        self.centre = nn.Parameter(torch.zeros(2))  # (x, y) in [-1, 1]
        self.requires_grad_(False)

    def forward(self, present: Tensor, actions: Tensor, jump: int = 1) -> Tensor:
        """present: (B, 1, c, h, w) standardised; actions: (B, F · jump, A) in their units -> (B, F, c, h, w)."""
        fine = self._unfold(present[:, 0])
        still = self._fold(fine)
        grid = self._grid(actions.float(), present.shape[-2] * self.scale, present.shape[-1] * self.scale)
        grid = grid[:, jump - 1 :: jump]  # (B, F, H, W, 2)
        moved = warp(F.pixel_shuffle(fine.float(), self.scale), grid)  # (B, F, features, H, W)
        moved = self._fold(F.pixel_unshuffle(moved.flatten(0, 1), self.scale)).unflatten(0, (-1, grid.shape[1]))
        return present + (moved - still[:, None]).float()

    def fit(self, context: Tensor, future: Tensor, actions: Tensor, codec: Codec, standardize: Standardize) -> None:
        """Fit the motion to what the codec shows, then the warp of latents to that of pictures. All in a fixed order, by Adam.

        Args:
            context, future: (N, C, c, h, w), (N, F, c, h, w) latents as the codec gives them; actions: (N, F, A).
            codec: decodes the present and the future; what it makes of the warped picture is what the warped latents should be.
            standardize: what this module's latents have been through.
        """
        present = pictures(codec, context[:, -1])  # (N, 3, H, W)
        truth = torch.stack([pictures(codec, frame) for frame in future.unbind(1)], dim=1)  # (N, F, 3, H, W)
        with torch.no_grad():  # start from a level ground below the horizon: what is lower in the image is nearer
            row = _centres(self.log_relief.shape[-2]).clamp(min=0.02).log() - 2
            self.log_relief.copy_(row[:, None] / FAST)

        def motion_error(part: slice) -> Tensor:
            moved = warp(present[part], self._grid(actions[part], *present.shape[-2:]))
            return F.l1_loss(moved, truth[part])

        _minimise(motion_error, [self.log_relief, self.turning, self.centre], MOTION_STEPS, len(context))
        standard = standardize(context[:, -1:])
        with torch.no_grad():
            target = [
                warp(one[None], self._grid(action[None], *one.shape[-2:]))[0]
                for one, action in zip(present, actions, strict=True)
            ]
            target = standardize(torch.stack([codec.encode(frames.to(device_of(codec))).cpu() for frames in target]))

        def warp_error(part: slice) -> Tensor:
            return F.mse_loss(self(standard[part], actions[part]), target[part])

        _minimise(warp_error, [*self.unfold.parameters(), *self.fold.parameters()], WARP_STEPS, len(context))

    def _grid(self, actions: Tensor, height: int, width: int) -> Tensor:
        """Where each point of the fine grid was seen in the present, after each action: (B, F, H, W, 2) of (x, y) in [-1, 1]."""
        speed = actions[..., ACTIONS.index("speed_mps")].clamp(min=0)
        way = speed.cumsum(dim=1)[..., None, None]  # (B, F, 1, 1)
        turn = self.turning * (speed * actions[..., ACTIONS.index("steering_rad")]).cumsum(dim=1)[..., None, None]
        relief = F.interpolate(FAST * self.log_relief, size=(height, width), mode="bilinear")[0, 0].exp()
        y, x = torch.meshgrid(_centres(height).to(actions), _centres(width).to(actions), indexing="ij")
        nearer = 1 / (1 + way * relief)  # (B, F, H, W)
        from_x = self.centre[0] + (x - self.centre[0]) * nearer - turn
        from_y = self.centre[1] + (y - self.centre[1]) * nearer
        return torch.stack([from_x, from_y], dim=-1)

    def _unfold(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, features · scale², h, w): the latents on the fine grid, plus what a small network adds."""
        padded = F.pad(z, (0, 0, 0, 0, 0, self.features - z.shape[1]))
        return self.unfold(z) + padded.repeat_interleave(self.scale**2, dim=1)

    def _fold(self, fine: Tensor) -> Tensor:
        """The reverse: the mean over the fine grid, plus what a small network adds."""
        channels = self.fold[-1].out_channels
        return self.fold(fine) + fine.unflatten(1, (self.features, -1)).mean(dim=2)[:, :channels]


def warp(image: Tensor, grid: Tensor) -> Tensor:
    """image (B, c, H, W) as seen at grid (B, F, h, w, 2), (x, y) in [-1, 1], beyond its border continued -> (B, F, c, h, w)."""
    frames = grid.shape[1]
    repeated = image[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
    moved = F.grid_sample(repeated, grid.flatten(0, 1), padding_mode="border", align_corners=False)
    return moved.unflatten(0, (-1, frames))


@torch.no_grad()
def pictures(codec: Codec, latents: Tensor) -> Tensor:
    """(N, c, h, w) -> (N, 3, H, W) in [-1, 1], a few at a time."""
    return torch.cat([codec.decode(part.to(device_of(codec))).cpu() for part in latents.split(32)])


@torch.enable_grad()
def _minimise(error: Callable[[slice], Tensor], parameters: list[nn.Parameter], steps: int, count: int) -> None:
    """Adam on `error` of every so many-th of `count` samples, a different part each step; warm-up, then a cosine to 0."""
    optimizer = torch.optim.Adam(parameters)
    parts = max(1, count // FIT_BATCH)
    for parameter in parameters:
        parameter.requires_grad_(True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        error(slice(step % parts, None, parts)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for parameter in parameters:
        parameter.requires_grad_(False)


def _centres(count: int) -> Tensor:
    """The middles of `count` equal parts of [-1, 1]."""
    return (torch.arange(count) + 0.5) / count * 2 - 1
