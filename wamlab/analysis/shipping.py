"""Making a set of trained models that comes with the package: training, weights, model card, and the pictures of its contact sheet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wamlab import pretrained, render
from wamlab.analysis import rollout_study, rollouts
from wamlab.codecs import load_codec
from wamlab.data import open_dataset
from wamlab.data.latents import LatentStore
from wamlab.errors import UnknownName
from wamlab.models import build_model, count_parameters, recipe_name
from wamlab.presets import SHIPPED
from wamlab.training import checkpoint as ckpt
from wamlab.training import fit_or_load, run_folder
from wamlab.types import ACTIONS

if TYPE_CHECKING:
    from wamlab.data import Dataset

#: The contact sheet, beside the card.
SHEET = "futures.webp"


@dataclass(frozen=True)
class Shipment:
    """What `ship` wrote to `folder`, and the frames (N, H, W, 3) of its contact sheet with a label each, `columns` in a row."""

    folder: Path
    frames: np.ndarray
    labels: tuple[str, ...]
    columns: int


def ship(
    name: str, dataset_name: str, root: Path = pretrained.WEIGHTS, resume: bool = True, progress: bool = True
) -> Shipment:
    """Train every model of the set `name` on a dataset, or load what was; write weights and `README.md` to `root / name`.

    The card's numbers are of the weights as written, on one window of each drive of the test split.
    Raises `UnknownName`, and as `fit_or_load`.
    """
    if name not in SHIPPED:
        raise UnknownName("set of trained models", name, SHIPPED)
    preset, dataset = SHIPPED[name], open_dataset(dataset_name)
    codec = load_codec(preset.codec, "cuda" if torch.cuda.is_available() else "cpu")
    store = LatentStore(dataset, codec, preset.resolution)
    seed, folder, rows = preset.seeds[0], root / name, []
    for model in pretrained.SETS[name]:
        made = fit_or_load(model, preset, dataset, codec, store, seed, progress, resume)
        path = folder / f"{model}.safetensors"
        pretrained.save_model(made, codec, path)
        rows.append(_row(model, path, preset, made, run_folder(model, preset, dataset, codec, seed)))
    models = {model: pretrained.load_model(folder / f"{model}.safetensors") for model in pretrained.SETS[name]}
    models = {"copy": build_model("copy", preset, codec), **models}
    scenes = dataset.scenes("test")
    sampling = {"steps": preset.sampler_steps, "guidance": preset.guidance, "strength": preset.strength}
    shapes = (scenes, store, preset.num_context, preset.horizon)
    rolled = rollouts.roll_out(models, *shapes, sampling, seed)
    denoisers = {f"{model} from noise": made for model, made in models.items() if "diffusion" in model}
    cold = rollouts.roll_out(denoisers, *shapes, sampling | {"strength": 1.0}, seed)
    measured_on = f"{dataset.name} data, {preset.name} preset, {len(rolled.scenes)} held-out scenes, 1 seed"
    everything = dataclasses.replace(rolled, predicted={**rolled.predicted, **cold.predicted})
    study = rollout_study.analyse({seed: everything}, codec, measured_on, seed)
    (folder / "README.md").write_text(
        _card(name, dataset_name, dataset, codec, rows, study, sampling, len(rolled.scenes))
    )
    return Shipment(folder, *_sheet(rolled, codec))


def _row(model: str, path: Path, preset: Any, made: torch.nn.Module, run: Path) -> str:
    """What the card says of one model's training."""
    train = getattr(preset, recipe_name(model)).train
    state = json.loads((ckpt.latest(run) / "state.json").read_text())
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    val = [row for row in log if "val_loss" in row][-1]
    return (
        f"| {model} | {count_parameters(made):,} | {path.stat().st_size / 1e6:.1f} | {state['step']} of {train.batch_size} "
        f"| {state['seconds']:.0f} | {val['val_loss']:.4f} | {val['val_vs_copy']:.3f} |"
    )


def _card(
    name: str,
    dataset_name: str,
    dataset: Dataset,
    codec: Any,
    rows: Sequence[str],
    study: rollout_study.RolloutStudy,
    sampling: dict[str, Any],
    count: int,
) -> str:
    header = "| model | " + " | ".join(study.summary.columns) + " |\n|" + "---|" * (1 + len(study.summary.columns))
    measured = "\n".join(f"| {model} | " + " | ".join(values) + " |" for model, *values in study.summary.itertuples())
    shown = Path(dataset_name).name if Path(dataset_name).exists() else dataset_name
    configs = {
        model: dataclasses.asdict(getattr(SHIPPED[name], recipe_name(model)).model) for model in pretrained.SETS[name]
    }
    return f"""# {name}

World models of {dataset.name} driving, trained for far longer than the preset `{name.split("/")[1]}` affords, as float16:
`wamlab.load("{name}")`. How the recipe was found is told in `NOTES.md`.

| model | parameters | MB | steps of windows | seconds | validation loss | its error ÷ that of copying |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

| | |
|---|---|
| data | {dataset.name}, fingerprint `{dataset.fingerprint}`: {len(dataset.scenes("train"))} train, {len(dataset.scenes("val"))} val, \
{len(dataset.scenes("test"))} test drives |
| command | `wamlab ship {name} --dataset {shown}` |
| trained with | {torch.get_num_threads()} CPU thread(s), torch {torch.__version__}, seed {SHIPPED[name].seeds[0]} |
| codec | {codec.name}, digest `{codec.digest}` |

A loss compares standardised latents; that of the chains is of single jumps from true frames, and their copy is of the frame before, so
compare like with like. The validation loss of a denoiser is a mean over all levels of noise.

## On drives it has not seen

One window in the middle of each of the {count} test drives, {SHIPPED[name].horizon} frames ahead; mean over frames, with 95 % intervals
over drives. Denoising: {", ".join(f"{key} {value}" for key, value in sampling.items())} (a strength
below 1 starts from the moved present, noised to that part of the way); "from noise" is strength 1.

{header}
{measured}

![Futures on held-out drives]({SHEET})

## Limits

It knows this procedural world only, through this codec, at 2 frames a second and {SHIPPED[name].resolution} pixels. What comes into view is
made up, and in a sharp turn that is soon most of the picture: there the anchor continues the edge of the present, and leaves streaks.
The anchor moves as if every scene had the mean scene's depths; the rest, and other road users, the network has to guess.

Configurations: `{json.dumps(configs, default=str)}`
"""


def _sheet(rolled: rollouts.Rollouts, codec: Any) -> tuple[np.ndarray, tuple[str, ...], int]:
    """Truth and every model, present and future, of the picked drives two beside each other: frames, labels, columns."""
    picked = _pick(rolled)
    latents = {rollouts.TRUTH: rolled.truth, **rolled.predicted}
    decoded = {
        name: rollouts.decode(codec, torch.cat([rolled.present[picked][:, None], z[picked]], dim=1))
        for name, z in latents.items()
    }
    frames, labels = [], []
    ahead = ["", *(f"+{t:.1f} s" for t in rolled.times_s)]
    for pair in (picked[i : i + 2] for i in range(0, len(picked), 2)):
        for name, pictures in decoded.items():
            for i in pair:
                frames.append(pictures[picked.index(i)])
                labels += [name, *(ahead[1:] if name == rollouts.TRUTH else [""] * len(rolled.times_s))]
    return render.to_hwc(torch.cat(frames)), tuple(labels), 2 * len(ahead)


def _pick(rolled: rollouts.Rollouts) -> list[int]:
    """Six drives: the sharpest turn and a turn sharper than nine in ten; the fastest at night, in rain or fog, in town and by clear day.

    A rule, so that nobody chooses what looks good.
    """
    speed, steering = (rolled.actions[..., ACTIONS.index(a)] for a in ("speed_mps", "steering_rad"))
    turned, fast = (speed * steering).sum(dim=1).abs(), speed.mean(dim=1)
    night, wet, town = (
        torch.tensor([any(word in note for word in words) for note in rolled.notes])
        for words in (("night",), ("rain", "fog"), (" urban",))
    )
    like = -(turned - turned.quantile(0.9)).abs()
    picked: list[int] = []
    for order in (turned, like, fast * night, fast * wet, fast * (town & ~night & ~wet), fast * ~(night | wet)):
        picked += [i for i in order.argsort(descending=True).tolist() if i not in picked][:1]
    return picked
