"""Tiny random models of the real classes, saved in the layout of the hub, processors included (on the hub, the VQ model has none)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import VQModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTForImageClassification,
    VJEPA2Config,
    VJEPA2Model,
)

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = VIT | {"vocab_size": 40, "max_position_embeddings": 8}
#: Encoder -> the file of its processor, with the published numbers but for the sizes.
PROCESSORS = {
    "vit-s16": {"size": {"height": 48, "width": 48}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "dinov2-s14": {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "resample": 3} | IMAGENET,
    "clip-b32": {
        "size": 64,
        "crop_size": 64,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "vq": {"size": 48, "crop_size": 48, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "vjepa2-rep64": {"size": {"shortest_edge": 54}, "crop_size": {"height": 48, "width": 48}, "resample": 2} | IMAGENET,
}


def make_models() -> dict[str, torch.nn.Module]:
    """As the hub has them: ViT with its classifier, CLIP with its text tower, V-JEPA 2 with its predictor, VQ with its decoder."""
    torch.manual_seed(0)
    jepa = {"crop_size": 48, "frames_per_clip": 64, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    predictor = {"pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    models = {
        "vit-s16": ViTForImageClassification(ViTConfig(**VIT, image_size=48, patch_size=16)),
        "dinov2-s14": Dinov2Model(Dinov2Config(**VIT, image_size=70, patch_size=14)),
        "clip-b32": CLIPModel(
            CLIPConfig(
                vision_config=VIT | {"image_size": 64, "patch_size": 32, "projection_dim": 24},
                text_config=TEXT,
                projection_dim=24,
            )
        ),
        "vjepa2-rep64": VJEPA2Model(VJEPA2Config(**jepa, **predictor)),
        "vq": VQModel(**blocks, block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=6, vq_embed_dim=5),
    }
    for model in models.values():  # weights large enough that tokens differ
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return {name: model.eval() for name, model in models.items()}


def save_all(root: Path) -> dict[str, Path]:
    """Encoder -> folder."""
    folders = {}
    for name, model in make_models().items():
        folders[name] = root / name
        model.save_pretrained(folders[name])
        file = "video_preprocessor_config.json" if name.startswith("vjepa2") else "preprocessor_config.json"
        (folders[name] / file).write_text(json.dumps(PROCESSORS[name]))
    return folders | {"vjepa2-rep1": folders["vjepa2-rep64"]}


def smooth_frames(n: int = 5, size: int = 48, seed: int = 0) -> torch.Tensor:
    """(n, 3, size, size) uint8 with large structures, as pictures have."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8)


def make_clips(n: int = 3, num_frames: int = 16, size: int = 48) -> torch.Tensor:
    """(n, num_frames, 3, size, size) uint8."""
    return smooth_frames(n * num_frames, size).unflatten(0, (n, num_frames))
