"""From a seed to a nuScenes dataset on disk: which scenes there are, and recording them in several processes."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from wamlab.config import digest
from wamlab.errors import DatasetIncomplete, InvalidParameter
from wamlab.world.filming import Sensors, record
from wamlab.world.nuscenes import scene_done, write_scene, write_tables, written_scenes
from wamlab.world.simulation import SceneSpec
from wamlab.world.taxonomy import scene_names

NUM_SCENES = 160
_RECIPE = "4"  # raise it when the same spec would give other pixels or numbers
_START_US = 1_700_000_000_000_000


def dataset_specs(num_scenes: int, seed: int) -> dict[str, SceneSpec]:
    """name -> spec: places, hours, weathers, turns and drivers in fixed shares, shuffled by the seed."""
    rng = np.random.default_rng([seed, 0])
    specs = {}
    for name in scene_names(num_scenes):
        specs[name] = SceneSpec(
            seed=int(rng.integers(2**31)),
            place=str(rng.choice(["urban", "suburban", "rural"], p=[0.45, 0.35, 0.2])),
            time=str(rng.choice(["day", "dusk", "night"], p=[0.6, 0.18, 0.22])),
            weather=str(rng.choice(["clear", "overcast", "rain", "fog"], p=[0.5, 0.2, 0.2, 0.1])),
            turn=str(rng.choice(["straight", "left", "right"], p=[0.6, 0.2, 0.2])),
            explore=bool(rng.random() < 0.3),
            side=1 if rng.random() < 0.8 else -1,
        )
    return specs


def split_of(index: int) -> str:
    """Every tenth scene validates, every fifth tests, the others train: 112 / 16 / 32 of 160."""
    return "val" if index % 10 == 4 else "test" if index % 5 == 2 else "train"


def recipe_of(seed: int, duration_s: float, sensors: Sensors) -> str:
    """Digest of all that decides a scene's bytes, but for its name: scenes of another recipe are not taken for done."""
    return digest(_RECIPE, seed, duration_s, sensors)


def _record_and_write(
    out: str, name: str, split: str, spec: SceneSpec, start_us: int, sensors: Sensors, recipe: str
) -> str:
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    write_scene(out, record(name, split, spec, start_us, sensors), recipe)
    return name


def synthesize(
    out: Path | str,
    num_scenes: int = NUM_SCENES,
    seed: int = 0,
    workers: int = 0,
    duration_s: float = 20.0,
    progress: bool = True,
    sensors: Sensors | None = None,
) -> Path:
    """Write the procedural world as a nuScenes dataset (version `v1.0-synthetic`) to `out`; resumes where an earlier call stopped.

    Every scene depends on the seed and its own name alone, so the dataset does not depend on the number of processes.

    Args:
        workers: processes, 0 for one a core.
        sensors: what the drives are taken with, by default the front camera, at the keyframes and for some clips. Other sensors make
            another dataset: scenes that `out` has from before are then written anew.

    Raises:
        InvalidParameter: fewer than 10 or more than 9,000 scenes, a bad number of processes or duration.
        DatasetIncomplete: the folder holds something else.
    """
    from tqdm import tqdm

    if not 10 <= num_scenes <= 9000:
        raise InvalidParameter(f"the number of scenes must be 10..9000 (each split needs one), not {num_scenes}")
    if workers < 0:
        raise InvalidParameter(f"the number of processes must be 0 (one a core) or more, not {workers}")
    specs = {name: replace(spec, duration_s=duration_s) for name, spec in dataset_specs(num_scenes, seed).items()}
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / ".parts").is_dir():
        raise DatasetIncomplete(
            f"{out} is not empty and was not made by `wamlab data synth`; give another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    sensors = sensors or Sensors()
    recipe = recipe_of(seed, duration_s, sensors)
    jobs = [
        (str(out), name, split_of(i), spec, _START_US + i * 60_000_000, sensors, recipe)
        for i, (name, spec) in enumerate(specs.items())
        if not scene_done(out, name, recipe)
    ]
    if not jobs and written_scenes(out) == set(specs):
        return out
    with tqdm(
        total=num_scenes, initial=num_scenes - len(jobs), desc="scenes", unit="scene", disable=not progress
    ) as bar:
        if jobs:
            with ProcessPoolExecutor(
                min(workers or os.cpu_count() or 1, len(jobs)), mp_context=get_context("spawn")
            ) as pool:
                futures = [pool.submit(_record_and_write, *job) for job in jobs]
                try:
                    for future in as_completed(futures):
                        future.result()
                        bar.update()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    write_tables(out, list(specs), recipe)
    return out
