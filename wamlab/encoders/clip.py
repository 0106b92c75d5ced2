"""CLIP ViT-B/32: images matched with captions, through `transformers.CLIPVisionModelWithProjection`; the embedding is what is matched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from wamlab.encoders.frozen import TransformerEncoder
from wamlab.encoders.loading import load_backbone
from wamlab.encoders.preprocess import CLIP, Preprocess

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig


@dataclass(frozen=True)
class SmallClip:
    """Sizes of the embedded instance's image tower: 1.1 M parameters."""

    image_size: int = 128
    patch_size: int = 16
    width: int = 128
    depth: int = 5
    heads: int = 4
    projection: int = 128

    def config(self) -> CLIPVisionConfig:
        """As transformers takes it."""
        from transformers import CLIPVisionConfig

        return CLIPVisionConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            projection_dim=self.projection,
        )

    def preprocess(self) -> Preprocess:
        """As the published one, at its own size."""
        return Preprocess(self.image_size, self.image_size, "bicubic", *CLIP)


class Clip(TransformerEncoder):
    """See the module's docstring. Of a whole CLIP model the image tower is read. Patch features have the tower's last norm applied."""

    config_types = ("clip", "clip_vision_model")
    PREPROCESS = Preprocess(224, 224, "bicubic", *CLIP)

    @classmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        from transformers import CLIPVisionModelWithProjection

        return load_backbone(CLIPVisionModelWithProjection, source, name, cls.config_types, cls.PREPROCESS)

    @classmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection(SmallClip().config()), SmallClip().preprocess()

    @property
    def width(self) -> int:
        return self.backbone.config.projection_dim

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.backbone(pixels[:, 0], interpolate_pos_encoding=True)
        patches = self.backbone.vision_model.post_layernorm(output.last_hidden_state[:, self.num_prefix :])
        return output.image_embeds, patches
