"""VQ: frames rebuilt from a codebook's vectors (van den Oord et al., 2017, arXiv:1711.00937). No adversary and no perceptual loss.

A code that no latent of a batch chose is moved to one of them (Dhariwal et al., 2020, arXiv:2005.00341): else few codes remain in use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective
from wamlab.encoders.vq import SmallVq


class Reconstruction(Objective):
    """See the module's docstring. The backbone is the whole autoencoder, as the real checkpoint has it."""

    summary = "squared error of the rebuilt frame, the codebook's and 0.25 of the commitment loss; no labels"
    measure = "psnr_db"
    meaning = "PSNR of frames rebuilt from their codes, in dB"

    def __init__(self, config: SmallVq) -> None:
        from diffusers import VQModel

        super().__init__()
        self.backbone, self.preprocess = VQModel(**config.config()), config.preprocess()
        self.backbone.quantize.legacy = False  # diffusers' default has the two losses' weights the wrong way round

    @torch.no_grad()
    def prepare(self, frames: Tensor) -> None:
        """Take evenly spaced latents of the training frames for the codebook, so that no code starts where no latent is."""
        codes, latents = self._codes, _vectors(self.backbone.encode(self.preprocess(frames[:, 0])).latents)
        codes.copy_(latents[torch.linspace(0, len(latents) - 1, len(codes)).long()])

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels = self.preprocess(batch.frames[:, 0])
        latents = self.backbone.encode(pixels).latents
        vectors, codebook, (_, _, chosen) = self.backbone.quantize(latents)
        rebuilt = self.backbone.decode(vectors, force_not_quantize=True).sample
        error = F.mse_loss(rebuilt.float(), pixels)
        used = torch.bincount(chosen, minlength=len(self._codes)) > 0
        if self.training:
            self._restart(~used, _vectors(latents.detach()), generator)
        return error + codebook, {"psnr_db": float(10 * torch.log10(4 / error.detach())), "codes": float(used.sum())}

    @property
    def _codes(self) -> Tensor:
        return self.backbone.quantize.embedding.weight

    @torch.no_grad()
    def _restart(self, unused: Tensor, latents: Tensor, generator: torch.Generator) -> None:
        places = torch.randint(len(latents), (int(unused.sum()),), generator=generator, device=generator.device)
        self._codes[unused] = latents[places].to(self._codes)


def _vectors(latents: Tensor) -> Tensor:
    """(N, D, h, w) -> (N h w, D)."""
    return latents.movedim(1, -1).flatten(0, -2)
