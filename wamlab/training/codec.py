"""Training the small codec through the one loop, and writing its weights with a card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wamlab.codecs import SmallVae, save_small_vae
from wamlab.config import digest, runs_dir, to_dict
from wamlab.training import checkpoint as ckpt
from wamlab.training.fitting import scenes_of
from wamlab.training.loop import fit
from wamlab.training.randomness import seeded, spread
from wamlab.types import Scene

if TYPE_CHECKING:
    from wamlab.data import Dataset
    from wamlab.presets import Preset

#: Frames for the closed-form initialisation and the statistics of the latents, and validation frames for the reported PSNR.
STATISTICS_FRAMES, HELD_OUT_FRAMES = 512, 256


class Frames(torch.utils.data.Dataset[Tensor]):
    """At most `count` frames spread over the scenes, in memory as uint8; an item is (3, R, R) float in [-1, 1]."""

    def __init__(self, scenes: Sequence[Scene], count: int, resolution: int) -> None:
        from wamlab.data.frames import load_frames

        everything = [(i, t) for i, scene in enumerate(scenes) for t in range(len(scene))]
        wanted: dict[int, list[int]] = {}
        for j in spread(len(everything), count):
            i, t = everything[j]
            wanted.setdefault(i, []).append(t)
        self.frames = torch.cat([load_frames(scenes[i], times, resolution) for i, times in wanted.items()])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> Tensor:
        return self.batch([i])[0]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """(N, 3, R, R) float in [-1, 1]."""
        from wamlab.render import to_model

        return to_model(self.frames[list(indices)])


def train_small_vae(
    dataset: Dataset,
    preset: Preset,
    output: Path,
    command: str,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Path:
    """Train the preset's `small_vae`; write `small_vae.safetensors` and its model card `small_vae.md` to `output`; return the former.

    The run itself, with checkpoints, is `runs/models/small-vae-<digest>`. `command` is quoted in the card.
    """
    recipe = preset.small_vae
    train_scenes, val_scenes = scenes_of(dataset, "train"), scenes_of(dataset, "val")
    train_set = Frames(train_scenes, recipe.num_frames, preset.resolution)
    val_set = Frames(val_scenes, HELD_OUT_FRAMES, preset.resolution)
    identity = {
        "model": to_dict(recipe.model),
        "data": {"dataset": dataset.fingerprint, "frames": recipe.num_frames, "resolution": preset.resolution},
    }
    folder = runs_dir() / "models" / f"small-vae-{digest(identity, recipe.train.identity(), seed)}"
    sample = train_set.batch(spread(len(train_set), STATISTICS_FRAMES))
    codec = fit(
        seeded(seed, SmallVae, recipe.model),
        train_set,
        val_set,
        recipe.train,
        folder,
        identity=identity,
        prepare=lambda model: model.fit_pca(sample),
        seed=seed,
        resume=resume,
        progress=progress,
    ).cpu()
    codec.fit_latents(sample)
    weights = output / "small_vae.safetensors"
    save_small_vae(codec, weights)
    seconds = json.loads((ckpt.latest(folder) / "state.json").read_text())["seconds"]
    psnr = held_out_psnr(codec, val_set)
    weights.with_suffix(".md").write_text(
        f"""# small-vae

A frame codec: {codec.downsample} × {codec.downsample} pixels to one latent of {codec.channels} channels, standardised for each channel.
{sum(p.numel() for p in codec.parameters()):,} parameters, {weights.stat().st_size / 1e6:.1f} MB.

| | |
|---|---|
| data | {dataset.name}, fingerprint `{dataset.fingerprint}` |
| trained on | {len(train_set)} frames of {len(train_scenes)} train scenes, {preset.resolution} × {preset.resolution} pixels |
| command | `{command}` |
| seed | {seed} |
| time | {seconds:.0f} s, {torch.get_num_threads()} CPU thread(s), torch {torch.__version__} |
| held-out PSNR | {psnr:.2f} dB on {len(val_set)} frames of {len(val_scenes)} val scenes |
| digest | `{codec.digest}` |

Configuration: `{json.dumps(to_dict(codec.config))}`

It knows the scenes of its training data only: expect less of it elsewhere, and use `sd-vae` for real images.
"""
    )
    return weights


def held_out_psnr(codec: SmallVae, frames: Frames) -> float:
    """Mean over the frames of 10 log10(4 / mse), for images in [-1, 1], through the latents as they are stored. In dB."""
    values = []
    for first in range(0, len(frames), 32):
        x = frames.batch(range(first, min(first + 32, len(frames))))
        mse = (codec.decode(codec.encode(x)) - x).square().mean(dim=(1, 2, 3))
        values.append(10 * torch.log10(4 / mse))
    return float(torch.cat(values).mean())
