"""Pretraining the embedded encoders through the one loop, and writing their weights with a card that says what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wamlab.config import digest, runs_dir, to_dict
from wamlab.encoders import ENCODERS, save_backbone
from wamlab.encoders.pretraining import OBJECTIVES, Frames, Objective, collate
from wamlab.training import checkpoint as ckpt
from wamlab.training.fitting import scenes_of
from wamlab.training.loop import fit, validate
from wamlab.training.randomness import seeded, spread

if TYPE_CHECKING:
    from wamlab.data import Dataset
    from wamlab.presets import Preset

#: Frames for an objective's preparation, evenly spaced.
PREPARATION_FRAMES = 64


def train_encoder(
    name: str,
    dataset: Dataset,
    preset: Preset,
    output: Path,
    command: str,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Path:
    """Pretrain the embedded backbone of an encoder; write it, with its card `README.md`, to its folder in `output`; return that folder.

    The run itself, with checkpoints, is `runs/models/<folder>-<digest>`. `command` is quoted in the card.
    Raises `LabelsMissing` where the dataset lacks what the objective learns from, `DatasetIncomplete`, and what `fit` raises.
    """
    entry = ENCODERS[name]
    recipe = getattr(preset.encoders, entry.folder)
    objective = seeded(seed, OBJECTIVES[entry.folder], recipe.model)
    train_set, val_set = (_frames(dataset, split, objective) for split in ("train", "val"))
    identity = {
        "model": {"name": entry.folder, **to_dict(recipe.model)},
        "data": {"dataset": dataset.fingerprint, "frames": objective.num_frames},
    }
    folder = runs_dir() / "models" / f"{entry.folder}-{digest(identity, recipe.train.identity(), seed)}"

    def prepare(model: Objective) -> None:
        model.prepare(collate([train_set[i] for i in spread(len(train_set), PREPARATION_FRAMES)]).frames)

    trained = fit(
        objective,
        train_set,
        val_set,
        recipe.train,
        folder,
        identity=identity,
        prepare=prepare,
        collate=collate,
        seed=seed,
        resume=resume,
        progress=progress,
    ).cpu()
    trained.backbone.half().float()  # what is judged is what is written
    save_backbone(trained.backbone, trained.preprocess, output / entry.folder)
    twin = seeded(seed, OBJECTIVES[entry.folder], recipe.model).eval()
    held_out = [validate(model, val_set, recipe.train, collate, "cpu")[trained.measure] for model in (trained, twin)]
    encoder = entry.family(*entry.family.read(output / entry.folder, name), name)
    size = sum(file.stat().st_size for file in (output / entry.folder).glob("*.safetensors"))
    seconds = json.loads((ckpt.latest(folder) / "state.json").read_text())["seconds"]
    shown = f"{len(train_set)} {'frames' if objective.num_frames == 1 else f'clips of {objective.num_frames} frames'}"
    (output / entry.folder / "README.md").write_text(
        f"""# {" and ".join(f"{key}/embedded" for key, other in ENCODERS.items() if other.folder == entry.folder)}

A small `{type(trained.backbone).__name__}` of {sum(p.numel() for p in trained.backbone.parameters()):,} parameters, {size / 1e6:.1f} MB.

| | |
|---|---|
| objective | {trained.summary} |
| data | {dataset.name}, fingerprint `{dataset.fingerprint}` |
| trained on | {shown} of the train scenes, {train_set.pace}{trained.preprocess.crop} × {trained.preprocess.crop} pixels, \
{recipe.train.num_steps(len(train_set))} steps of {recipe.train.batch_size} |
| command | `{command}` |
| seed | {seed} |
| time | {seconds:.0f} s, {torch.get_num_threads()} CPU thread(s), torch {torch.__version__} |
| held out | {held_out[0]:.3f}, never trained: {held_out[1]:.3f} |
| what that is | {trained.meaning}; on the val scenes, batches of {recipe.train.batch_size} |
| digest | `{encoder.digest}` |

Configuration: `{json.dumps(to_dict(recipe.model))}`

It knows the scenes of its training data only: expect less of it elsewhere, and use the real weights for real images.
"""
    )
    return output / entry.folder


def _frames(dataset: Dataset, split: str, objective: Objective) -> Frames:
    scenes, size = scenes_of(dataset, split), objective.preprocess.resize
    return Frames(dataset, scenes, size, objective.num_frames, objective.labels)
