"""DINOv2-S/14: a transformer distilled from itself without labels, through `transformers.Dinov2Model`; its class token is the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from wamlab.encoders.frozen import TransformerEncoder
from wamlab.encoders.loading import load_backbone
from wamlab.encoders.preprocess import IMAGENET, Preprocess

if TYPE_CHECKING:
    from transformers import Dinov2Config


@dataclass(frozen=True)
class SmallDinov2:
    """Sizes of the embedded instance: 1.1 M parameters, 10 × 10 patches."""

    image_size: int = 140
    patch_size: int = 14
    width: int = 128
    depth: int = 5
    heads: int = 4

    def config(self) -> Dinov2Config:
        """As transformers takes it."""
        from transformers import Dinov2Config

        return Dinov2Config(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
        )

    def preprocess(self) -> Preprocess:
        """As the published one, at its own size and without cutting the border off."""
        return Preprocess(self.image_size, self.image_size, "bicubic", *IMAGENET)


class Dinov2(TransformerEncoder):
    """See the module's docstring. Positions are interpolated to the processor's crop, by the model itself."""

    config_types = ("dinov2",)
    PREPROCESS = Preprocess(256, 224, "bicubic", *IMAGENET)

    @classmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        from transformers import Dinov2Model

        return load_backbone(Dinov2Model, source, name, cls.config_types, cls.PREPROCESS)

    @classmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        from transformers import Dinov2Model

        return Dinov2Model(SmallDinov2().config()), SmallDinov2().preprocess()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.backbone(pixels[:, 0]).last_hidden_state
        return tokens[:, 0], tokens[:, self.num_prefix :]
