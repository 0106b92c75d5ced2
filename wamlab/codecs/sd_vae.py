"""The Stable-Diffusion VAE that the papers use, through diffusers: posterior mean × 0.18215, 8 × 8 pixels to 4 channels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from wamlab.errors import InvalidShape, WeightsMissing
from wamlab.weights import weights_digest

SD_VAE = "stabilityai/sd-vae-ft-mse"


class SdVae(nn.Module):
    """An `AutoencoderKL` as a codec.

    Args:
        source: a folder in diffusers' layout (`config.json`, `diffusion_pytorch_model.safetensors`), or a name on the Hugging Face hub,
            taken from its cache, or downloaded when it is not there and there is a network.
        frames_at_once: frames in one pass, which bounds the memory.

    Raises `WeightsMissing`. Only safetensors are read.
    """

    name = "sd-vae"

    def __init__(self, source: str | Path = SD_VAE, frames_at_once: int = 8) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        try:
            self.vae = AutoencoderKL.from_pretrained(str(source), use_safetensors=True)
        except (OSError, ValueError) as error:
            from huggingface_hub.constants import HF_HUB_CACHE

            raise WeightsMissing(
                f"the codec {source} is neither a folder here nor in the cache {HF_HUB_CACHE}, and it could not be downloaded "
                f"({str(error).splitlines()[0]}). Copy its folder (config.json, diffusion_pytorch_model.safetensors) to this machine "
                "and give the path as the codec, set HF_HOME to a cache that has it, or use the codec small-vae, which is included"
            ) from error
        self.vae.requires_grad_(False).eval()
        self.scale = self.vae.config.scaling_factor
        self.channels = self.vae.config.latent_channels
        self.downsample = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.frames_at_once = frames_at_once
        self.digest = weights_digest(self)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> (N, c, H / f, W / f), the posterior's mean × 0.18215. Raises `InvalidShape`."""
        f = self.downsample
        if frames.ndim != 4 or frames.shape[1] != 3 or frames.shape[2] % f or frames.shape[3] % f:
            raise InvalidShape(f"frames must be (N, 3, H, W) with H and W multiples of {f}, not {tuple(frames.shape)}")
        parts = frames.split(self.frames_at_once)
        return torch.cat([self.vae.encode(part).latent_dist.mode() for part in parts]) * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, 3, h f, w f) in [-1, 1]. Raises `InvalidShape`."""
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise InvalidShape(f"latents must be (N, {self.channels}, h, w), not {tuple(latents.shape)}")
        parts = (latents / self.scale).split(self.frames_at_once)
        return torch.cat([self.vae.decode(part).sample.clamp(-1, 1) for part in parts])
