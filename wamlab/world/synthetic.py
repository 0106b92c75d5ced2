"""From a seed to a nuScenes dataset on disk: which scenes there are, and recording them in several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from wamlab.config import digest
from wamlab.errors import DatasetIncomplete, InvalidParameter
from wamlab.world.camera import Camera
from wamlab.world.nuscenes import MAP_RESOLUTION_M, scene_done, write_scene, write_tables, written_scenes
from wamlab.world.recording import AgentTrack, CanBus, Recording
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world
from wamlab.world.taxonomy import scene_names
from wamlab.world.traffic import CATEGORY

NUM_SCENES = 160
_RECIPE = "3"  # raise it when the same spec would give other pixels or numbers
_ANNOTATED_M = 50.0
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


def record(
    name: str, split: str, spec: SceneSpec, start_us: int, camera: Camera | None = None, device: str = "cpu"
) -> Recording:
    """Drive one scene and film it."""
    from wamlab.world.render import Renderer

    camera = camera or Camera()
    world = make_world(spec)
    log = world.simulate()[: round(spec.duration_s / STEP_S)]
    keyframes = log[::KEYFRAME_STEPS]
    renderer = Renderer(world, camera, device)
    frames, seen = [], []
    for first in range(0, len(keyframes), 8):
        drawn = renderer(keyframes[first : first + 8])
        frames.append(drawn.rgb.permute(0, 2, 3, 1).cpu().numpy())
        seen += [np.bincount(i.ravel(), minlength=len(world.agents) + 1)[1:] for i in drawn.instance.cpu().numpy()]
    ego = np.array([s.ego.pose for s in keyframes])
    return Recording(
        name=name,
        split=split,
        description=spec.description,
        timestamps_us=start_us + np.round(np.arange(len(keyframes)) * KEYFRAME_STEPS * STEP_S * 1e6).astype(np.int64),
        frames=np.concatenate(frames),
        ego_pose=ego,
        intrinsics=camera.intrinsics,
        camera_translation_m=np.array(camera.position_m),
        camera_rotation=camera.quaternion,
        can=_can_bus(log, start_us),
        agents=tuple(_tracks(world, keyframes, ego, np.array(seen), camera)),
        route=world.route.points,
        map_mask=_map_mask(world),
        map_resolution_m=MAP_RESOLUTION_M,
        attributes={**world.look.attributes, "place": spec.place},
    )


def _can_bus(log: list[State], start_us: int) -> CanBus:
    speed = np.array([s.ego.speed_mps for s in log])
    steering = np.array([s.ego.steering_rad for s in log])
    accel = np.array([s.ego.accel_mps2 for s in log])
    yaw_rate = np.array([s.ego.yaw_rate_radps for s in log])
    return CanBus(
        timestamps_us=start_us + np.round(np.arange(len(log)) * STEP_S * 1e6).astype(np.int64),
        pose=np.array([s.ego.pose for s in log]),
        speed_mps=speed,
        accel_mps2=np.stack([accel, speed * yaw_rate], -1),
        yaw_rate_radps=yaw_rate,
        steering_rad=steering,
        brake=np.clip(-accel / 7, 0, 1),
        throttle=np.clip(accel / 2.5, 0, 1),
    )


def _tracks(
    world: World, keyframes: list[State], ego: np.ndarray, seen: np.ndarray, camera: Camera
) -> Iterator[AgentTrack]:
    """Annotations of the agents that come within reach of the car, with the share of them that the camera sees."""
    agents = world.agents
    if not len(agents):
        return
    pose = np.stack([agents.pose(s.agents.s_m) for s in keyframes])  # (T, N, 3)
    speed = np.stack([s.agents.speed_mps for s in keyframes])
    distance = np.linalg.norm(pose[..., :2] - ego[:, None, :2], axis=-1)
    for n in np.flatnonzero((distance < _ANNOTATED_M).any(0)):
        kind, (length, width, height) = agents.kind[n], agents.size_m[n]
        full = (
            0.6 * height * max(width, 0.6 * length) * (camera.focal_px / np.maximum(distance[:, n], 4.0)) ** 2
        )  # pixels if unhidden
        share = seen[:, n] / np.maximum(full, 1.0)
        level = np.where(distance[:, n] < _ANNOTATED_M, 1 + np.digitize(share, [0.4, 0.6, 0.8]), 0)
        yaw = pose[:, n, 2]
        yield AgentTrack(
            category=CATEGORY[kind],
            size_m=(float(width), float(length), float(height)),
            pose=pose[:, n],
            z_m=np.full(len(yaw), height / 2),
            velocity_mps=speed[:, n, None] * np.stack([np.cos(yaw), np.sin(yaw)], -1),
            attribute=tuple(_attribute(kind, agents.speed_mps[n] == 0, v) for v in speed[:, n]),
            visibility=level.astype(int),
        )


def _attribute(kind: str, parked: bool, speed_mps: float) -> str:
    moving = speed_mps > 0.2
    if kind == "pedestrian":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if kind == "cyclist":
        return "cycle.with_rider"
    return "vehicle.parked" if parked else "vehicle.moving" if moving else "vehicle.stopped"


def _map_mask(world: World) -> np.ndarray:
    """Carriageways as a (rows, columns) mask, row 0 at the top."""
    columns, rows = (int(np.ceil(v / MAP_RESOLUTION_M)) for v in world.map.size_m)
    mask = np.zeros((rows, columns), np.uint8)
    for road in world.map.roads:
        line = np.round(road.points / MAP_RESOLUTION_M * 16).astype(np.int32)
        line[:, 1] = rows * 16 - line[:, 1]
        cv2.polylines(
            mask,
            [line.reshape(-1, 1, 2)],
            False,
            255,
            int(round(2 * road.half_width_m / MAP_RESOLUTION_M)),
            cv2.LINE_8,
            4,
        )
    return mask > 0


def _record_and_write(out: str, name: str, split: str, spec: SceneSpec, start_us: int, recipe: str) -> str:
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    write_scene(out, record(name, split, spec, start_us), recipe)
    return name


def synthesize(
    out: Path | str,
    num_scenes: int = NUM_SCENES,
    seed: int = 0,
    workers: int = 0,
    duration_s: float = 20.0,
    progress: bool = True,
) -> Path:
    """Write the procedural world as a nuScenes dataset (version `v1.0-synthetic`) to `out`; resumes where an earlier call stopped.

    Every scene depends on the seed and its own name alone, so the dataset does not depend on the number of processes.

    Args:
        workers: processes, 0 for one a core.

    Raises:
        InvalidParameter: fewer than 10 or more than 9,000 scenes, or a bad number of processes.
        DatasetIncomplete: the folder holds something else.
    """
    from tqdm import tqdm

    if not 10 <= num_scenes <= 9000:
        raise InvalidParameter(f"the number of scenes must be 10..9000 (each split needs one), not {num_scenes}")
    if workers < 0:
        raise InvalidParameter(f"the number of processes must be 0 (one a core) or more, not {workers}")
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / ".parts").is_dir():
        raise DatasetIncomplete(
            f"{out} is not empty and was not made by `wamlab data synth`; give another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    specs = {name: replace(spec, duration_s=duration_s) for name, spec in dataset_specs(num_scenes, seed).items()}
    recipe = digest(_RECIPE, seed, duration_s)
    jobs = [
        (str(out), name, split_of(i), spec, _START_US + i * 60_000_000, recipe)
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
