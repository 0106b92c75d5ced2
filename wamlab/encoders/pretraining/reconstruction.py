"""VQ: frames rebuilt from a codebook's vectors (van den Oord et al., 2017, arXiv:1711.00937). No adversary and no perceptual loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective
from wamlab.encoders.vq import SmallVq


class Reconstruction(Objective):
    """See the module's docstring. The backbone is the whole autoencoder, as the real checkpoint has it."""

    summary = "squared error of the rebuilt frame, and the codebook's and the commitment loss; no labels"
    measure = "psnr_db"
    meaning = "PSNR of frames rebuilt from their codes, in dB"

    def __init__(self, config: SmallVq) -> None:
        from diffusers import VQModel

        super().__init__()
        self.backbone, self.preprocess = VQModel(**config.config()), config.preprocess()

    @torch.no_grad()
    def prepare(self, frames: Tensor) -> None:
        """Take evenly spaced latents of the training frames for the codebook, so that no code starts where no latent is."""
        codes = self.backbone.quantize.embedding.weight
        latents = (
            self.backbone.encode(self.preprocess(frames[:, 0])).latents.movedim(1, -1).flatten(0, -2)
        )  # (N h w, D)
        codes.copy_(latents[torch.linspace(0, len(latents) - 1, len(codes)).long()])

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels = self.preprocess(batch.frames[:, 0])
        latents = self.backbone.encode(pixels).latents
        codes, codebook, (_, _, chosen) = self.backbone.quantize(latents)
        rebuilt = self.backbone.decode(codes, force_not_quantize=True).sample
        error = F.mse_loss(rebuilt.float(), pixels)
        logs = {"psnr_db": float(10 * torch.log10(4 / error.detach())), "codes": float(chosen.unique().numel())}
        return error + codebook, logs
