"""ViT-S/16: a vision transformer trained with labels (ImageNet), through `transformers.ViTModel`; its class token is the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from wamlab.encoders.frozen import TransformerEncoder
from wamlab.encoders.loading import load_backbone
from wamlab.encoders.preprocess import HALF, Preprocess

if TYPE_CHECKING:
    from transformers import ViTConfig


@dataclass(frozen=True)
class SmallVit:
    """Sizes of the embedded instance: 1.1 M parameters."""

    image_size: int = 128
    patch_size: int = 16
    width: int = 128
    depth: int = 5
    heads: int = 4

    def config(self) -> ViTConfig:
        """As transformers takes it."""
        from transformers import ViTConfig

        return ViTConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
        )

    def preprocess(self) -> Preprocess:
        """As the published one, at its own size."""
        return Preprocess(self.image_size, self.image_size, "bilinear", *HALF, squash=True)


class Vit(TransformerEncoder):
    """See the module's docstring. Of a checkpoint with a classifier, the classifier is left out."""

    config_types = ("vit",)
    PREPROCESS = Preprocess(224, 224, "bilinear", *HALF, squash=True)

    @classmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        from transformers import ViTModel

        return load_backbone(ViTModel, source, name, cls.config_types, cls.PREPROCESS, add_pooling_layer=False)

    @classmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        from transformers import ViTModel

        return ViTModel(SmallVit().config(), add_pooling_layer=False), SmallVit().preprocess()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.backbone(pixels[:, 0], interpolate_pos_encoding=True).last_hidden_state
        return tokens[:, 0], tokens[:, self.num_prefix :]
