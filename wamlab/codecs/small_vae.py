"""The small codec: 8 × 8 pixels to one 4-channel latent, small enough to train on a CPU and to ship.

A frame is unshuffled into its 8 × 8 patches; everything happens on that grid, so there are no convolutions at full resolution. Encoder
and decoder are each a linear map, initialised with the principal components of the patches, plus a residual network that starts at
zero. It is a variational autoencoder whose posterior has one fixed standard deviation: the decoder learns to bear that much noise, so
nearby latents decode to similar frames, and KL(q || N(0, 1)) is mean² / 2 up to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.errors import InvalidParameter, InvalidShape


@dataclass(frozen=True)
class SmallVaeConfig:
    """Attributes:
    channels: of the latents; downsample: pixels to a latent, along each axis.
    width, encoder_blocks, decoder_blocks: of the residual networks.
    latent_noise: standard deviation of the posterior, where a latent's own is about 1.
    gradient_weight: of the L1 distance between the differences of neighbouring pixels, against smear.
    """

    channels: int = 4
    downsample: int = 8
    width: int = 96
    encoder_blocks: int = 2
    decoder_blocks: int = 4
    latent_noise: float = 0.1
    kl_weight: float = 1e-4
    l1_weight: float = 0.5
    gradient_weight: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 3 * self.downsample**2:
            raise InvalidParameter(f"channels must be between 1 and {3 * self.downsample**2}, not {self.channels}")


class ResBlock(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))). (N, W, h, w) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class SkipNet(nn.Module):
    """A linear map of every position, plus a residual network that is zero at initialisation."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        self.net = nn.Sequential(
            nn.Conv2d(inputs, width, 3 if inputs < width else 1, padding=1 if inputs < width else 0),
            *[ResBlock(width) for _ in range(blocks)],
            nn.SiLU(),
            nn.Conv2d(width, outputs, 1),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.net(x)


class SmallVae(nn.Module):
    """See the module's docstring. `encode` standardises each channel with the statistics that `fit_latents` set."""

    name = "small-vae"

    def __init__(self, config: SmallVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.downsample = config.channels, config.downsample
        patch = 3 * config.downsample**2
        self.encoder = SkipNet(patch, config.channels, config.width, config.encoder_blocks)
        self.decoder = SkipNet(config.channels, patch, config.width, config.decoder_blocks)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))
        self.digest = ""  # set by whoever loads or saves the weights

    def _encode(self, frames: Tensor) -> Tensor:
        return self.encoder(F.pixel_unshuffle(frames, self.downsample))

    def _decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.decoder(latents), self.downsample)

    def loss(self, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """frames: (N, 3, H, W) float in [-1, 1]. L2 + L1 + gradient loss + KL; `psnr_db` is logged. No noise in eval mode."""
        c = self.config
        mean = self._encode(frames)
        latents = mean
        if self.training:
            noise = torch.randn(mean.shape, generator=generator, device=generator.device)
            latents = mean + c.latent_noise * noise.to(mean)
        error = self._decode(latents).float() - frames
        l2 = error.square().mean()
        gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = 0.5 * mean.float().square().mean()
        loss = l2 + c.l1_weight * error.abs().mean() + c.gradient_weight * gradient + c.kl_weight * kl
        return loss, {"psnr_db": float(10 * torch.log10(4 / l2.detach()))}

    @torch.no_grad()
    def fit_pca(self, frames: Tensor) -> None:
        """Initialise the linear maps with the principal components of the patches of frames (N, 3, H, W), scaled to unit variance."""
        patches = F.pixel_unshuffle(frames.double(), self.downsample).movedim(1, -1).flatten(0, -2)  # (n, 3 * f²)
        mean = patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))  # ascending
        std = values[-self.channels :].clamp(min=1e-8).sqrt().flip(0)
        components = vectors[:, -self.channels :].flip(1)  # (3 * f², c)
        encode, decode = (components / std).T, components * std
        for conv, weight, bias in ((self.encoder.linear, encode, -encode @ mean), (self.decoder.linear, decode, mean)):
            conv.weight.copy_(weight[:, :, None, None])
            conv.bias.copy_(bias)

    @torch.no_grad()
    def fit_latents(self, frames: Tensor) -> None:
        """Set the statistics that standardise each channel, from frames (N, 3, H, W); call once, after training."""
        latents = torch.cat([self._encode(part) for part in frames.split(64)])
        self.latent_mean.copy_(latents.mean(dim=(0, 2, 3)))
        self.latent_std.copy_(latents.std(dim=(0, 2, 3)).clamp(min=1e-6))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> (N, c, H / f, W / f), zero mean and unit variance per channel. Raises `InvalidShape`."""
        f = self.downsample
        if frames.ndim != 4 or frames.shape[1] != 3 or frames.shape[2] % f or frames.shape[3] % f:
            raise InvalidShape(f"frames must be (N, 3, H, W) with H and W multiples of {f}, not {tuple(frames.shape)}")
        return (self._encode(frames) - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, 3, h f, w f) in [-1, 1]. Raises `InvalidShape`."""
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise InvalidShape(f"latents must be (N, {self.channels}, h, w), not {tuple(latents.shape)}")
        return self._decode(latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]).clamp(-1, 1)
