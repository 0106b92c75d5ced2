"""V-JEPA 2 ViT-L/16: masked prediction of features in video, through `transformers.VJEPA2Model`; the embedding is the mean of all patches.

The paper's two variants share one checkpoint, `facebook/vjepa2-vitl-fpc64-256`, and differ in what the encoder sees: "rep64" a clip of 16
frames (64 is how many the checkpoint was trained with), "rep1" the present alone, repeated to fill one tubelet of two frames. The
predictor is not used. The published processor cuts the border off (292 to 256 pixels); the authors' code resizes the whole frame instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from wamlab.encoders.frozen import TransformerEncoder
from wamlab.encoders.loading import load_backbone
from wamlab.encoders.preprocess import IMAGENET, Preprocess
from wamlab.errors import CheckpointMismatch

if TYPE_CHECKING:
    from transformers import VJEPA2Config


@dataclass(frozen=True)
class SmallVJepa2:
    """Sizes of the embedded instance: 1.1 M parameters, the predictor's 0.1 M among them; a clip has 8 × 6 × 6 patches."""

    image_size: int = 96
    patch_size: int = 16
    num_frames: int = 16
    width: int = 128
    depth: int = 4
    heads: int = 4
    predictor_width: int = 64
    predictor_depth: int = 2

    def config(self) -> VJEPA2Config:
        """As transformers takes it."""
        from transformers import VJEPA2Config

        return VJEPA2Config(
            crop_size=self.image_size,
            patch_size=self.patch_size,
            frames_per_clip=self.num_frames,
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            pred_hidden_size=self.predictor_width,
            pred_num_hidden_layers=self.predictor_depth,
            pred_num_attention_heads=self.heads,
        )

    def preprocess(self) -> Preprocess:
        """As the published one, at its own size and without cutting the border off."""
        return Preprocess(self.image_size, self.image_size, "bilinear", *IMAGENET)


class VJepa2Clip(TransformerEncoder):
    """Reads clips of 16 frames ("rep64")."""

    config_types = ("vjepa2",)
    num_frames = 16
    num_prefix = 0
    PREPROCESS = Preprocess(292, 256, "bilinear", *IMAGENET)

    @classmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        from transformers import VJEPA2Model

        model, preprocess = load_backbone(
            VJEPA2Model, source, name, cls.config_types, cls.PREPROCESS, unused=("predictor.",)
        )
        if preprocess.crop != model.config.crop_size:  # positions are counted by it
            raise CheckpointMismatch(
                f"{source}: its processor cuts {preprocess.crop} pixels, but the model is for {model.config.crop_size}"
            )
        return model.encoder, preprocess

    @classmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        from transformers import VJEPA2Model

        return VJEPA2Model(SmallVJepa2().config()).encoder, SmallVJepa2().preprocess()

    @property
    def grid(self) -> tuple[int, int, int]:
        _, h, w = super().grid
        return max(1, self.num_frames // self.backbone.config.tubelet_size), h, w

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        fill = max(1, self.backbone.config.tubelet_size // pixels.shape[1])
        patches = self.backbone(pixel_values_videos=pixels.repeat(1, fill, 1, 1, 1)).last_hidden_state
        return patches.mean(dim=1), patches


class VJepa2Frame(VJepa2Clip):
    """Reads single frames ("rep1")."""

    num_frames = 1
