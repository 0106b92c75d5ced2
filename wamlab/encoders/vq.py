"""A VQ tokenizer: trained to rebuild images from a codebook, through `diffusers.VQModel`; the embedding is the mean of the codes' vectors.

The paper's is a VQGAN (its "VQ-VAE Tracker", in its authors' code 16,384 codes of 256 dimensions, with a note that the first results of
that name were DINOv2's, for want of the checkpoint). Its weights are not published as a diffusers model. By name this module takes the
VQGAN of aMUSEd, `amused/amused-256`: 8192 codes of 64 dimensions, one for 16 × 16 pixels. A converted one can be given as a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wamlab.encoders.frozen import FrozenEncoder
from wamlab.encoders.loading import load_backbone
from wamlab.encoders.preprocess import HALF, Preprocess


@dataclass(frozen=True)
class SmallVq:
    """Sizes of the embedded instance: 0.7 M parameters, decoder included, 16 × 16 codes.

    It reads 64 pixels, because convolutions at full resolution are what such a model spends its time on.
    """

    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64)
    code_width: int = 32
    num_codes: int = 512

    def config(self) -> dict[str, Any]:
        """The arguments of `VQModel`."""
        return {
            "sample_size": self.image_size,
            "block_out_channels": self.channels,
            "down_block_types": ("DownEncoderBlock2D",) * len(self.channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(self.channels),
            "latent_channels": self.code_width,
            "num_vq_embeddings": self.num_codes,
            "norm_num_groups": 8,
            "mid_block_add_attention": False,
        }

    def preprocess(self) -> Preprocess:
        """To [-1, 1], at its own size."""
        return Preprocess(self.image_size, self.image_size, "bilinear", *HALF)


class Vq(FrozenEncoder):
    """See the module's docstring. Gradients pass the codebook straight through, as in training."""

    config_types = ("VQModel",)
    PREPROCESS = Preprocess(256, 256, "bilinear", *HALF)
    SUBFOLDER = "vqvae"

    @classmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        from diffusers import VQModel

        return load_backbone(VQModel, source, name, cls.config_types, cls.PREPROCESS, cls.SUBFOLDER)

    @classmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        from diffusers import VQModel

        return VQModel(**SmallVq().config()), SmallVq().preprocess()

    @property
    def width(self) -> int:
        return self.backbone.quantize.vq_embed_dim

    @property
    def grid(self) -> tuple[int, int, int]:
        side = self.preprocess.crop // 2 ** (len(self.backbone.config.block_out_channels) - 1)
        return 1, side, side

    @property
    def last_block(self) -> nn.Module:
        return self.backbone.quant_conv

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.backbone.quantize(self.backbone.encode(pixels[:, 0]).latents)[0]  # (B, D, h, w)
        return codes.mean(dim=(2, 3)), codes.flatten(2).transpose(1, 2)

    def _patches(self, hidden: Tensor) -> Tensor:
        return hidden.permute(0, 2, 3, 1)[:, None]
