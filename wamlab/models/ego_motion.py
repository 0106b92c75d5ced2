"""The present as it looks from where the actions lead: an anchor that moves with the ego vehicle."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.types import ACTIONS

#: Of `EgoMotion.fit`: steps of Adam, windows in each, the highest learning rate, and the seconds a frame it starts from.
FIT_STEPS, FIT_BATCH, FIT_LEARNING_RATE, FIT_FRAME_S = 250, 16, 3e-3, 0.5
#: Some parameters are kept divided by this, so that they learn this many times faster than weights do.
FAST = 20.0


class EgoMotion(nn.Module):
    """Latents warped by a camera's own motion through a fixed relief (not of the paper, whose anchor stands still).

    Speed and steering give how far the ego vehicle has come, s = Σ gain · v, and has turned, ψ = Σ gain · v · steering (a bicycle model
    for small angles). A point seen at (x, y) with inverse depth q(y, x), the same in every scene, was seen in the present at
    c + ((x, y) - c) / (1 + s q) - (ψ, 0). What is moved are features on a grid `scale` times finer than the latents', since their
    channels change with shifts of less than a latent. Other vehicles, and depths that differ from the mean, are left to what predicts
    the change from this anchor. `fit` decides everything; before, and where the vehicle stands, the present is returned.
    """

    def __init__(self, channels: int, size: int, scale: int = 4, features: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.scale, self.features = scale, features
        width = features * scale**2
        self.unfold = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, width, 1))
        self.fold = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))
        for layer in (self.unfold[-1], self.fold[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # a level ground below the horizon: inverse depth rises with the distance from the image's middle row
        row = _centres(size).clamp(min=0.02).log() - 1.5
        self.log_inverse_depth = nn.Parameter(row.view(1, 1, size, 1).repeat(1, 1, 1, size) / FAST)  # of 1/m
        self.gain = nn.Parameter(torch.zeros(2))  # metres for each m/s; radians (of half the image) for each m/s · rad
        self.centre = nn.Parameter(torch.zeros(2))  # (x, y) in [-1, 1]
        self.requires_grad_(False)

    def forward(self, present: Tensor, actions: Tensor, jump: int = 1) -> Tensor:
        """present: (B, 1, c, h, w) standardised; actions: (B, F · jump, A) in their units -> (B, F, c, h, w)."""
        fine = self._unfold(present[:, 0])
        still = self._fold(fine)
        grid = self._grid(actions.float(), present.shape[-2] * self.scale, present.shape[-1] * self.scale)
        grid = grid[:, jump - 1 :: jump]  # (B, F, H, W, 2)
        frames = grid.shape[1]
        fine = F.pixel_shuffle(fine.float(), self.scale)  # (B, features, H, W)
        fine = fine[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
        moved = F.grid_sample(fine, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        moved = self._fold(F.pixel_unshuffle(moved, self.scale)).unflatten(0, (-1, frames))
        return present + (moved - still[:, None]).float()

    @torch.enable_grad()
    def fit(self, context: Tensor, future: Tensor, actions: Tensor) -> None:
        """Least squares of (N, F, c, h, w) standardised futures, from the last of the context (N, C, c, h, w), by Adam in a fixed order."""
        self.requires_grad_(True)
        with torch.no_grad():
            self.gain[0] = FIT_FRAME_S / FAST
        optimizer = torch.optim.Adam(self.parameters())
        batches = max(1, len(context) // FIT_BATCH)
        for step in range(FIT_STEPS):
            rate = FIT_LEARNING_RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / FIT_STEPS))
            optimizer.param_groups[0]["lr"] = rate
            part = slice(step % batches, None, batches)
            F.mse_loss(self(context[part, -1:], actions[part]), future[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
        self.requires_grad_(False)

    def _grid(self, actions: Tensor, height: int, width: int) -> Tensor:
        """Where each point of the fine grid was seen in the present, after each action: (B, F, H, W, 2) of (x, y) in [-1, 1]."""
        speed = actions[..., ACTIONS.index("speed_mps")].clamp(min=0)
        way = (FAST * self.gain[0] * speed).cumsum(dim=1)[..., None, None]  # (B, F, 1, 1)
        turn = (self.gain[1] * speed * actions[..., ACTIONS.index("steering_rad")]).cumsum(dim=1)[..., None, None]
        depth = F.interpolate(FAST * self.log_inverse_depth, size=(height, width), mode="bilinear")[0, 0].exp()
        y, x = torch.meshgrid(_centres(height).to(actions), _centres(width).to(actions), indexing="ij")
        nearer = 1 / (1 + way * depth)  # (B, F, H, W)
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


def _centres(count: int) -> Tensor:
    """The middles of `count` equal parts of [-1, 1]."""
    return (torch.arange(count) + 0.5) / count * 2 - 1
