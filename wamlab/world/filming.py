"""One drive of the world, driven and taken by the car's sensors: from a `SceneSpec` to a `Recording`. No files."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from wamlab.errors import InvalidParameter
from wamlab.geometry import every_nth
from wamlab.world import lidar
from wamlab.world.annotation import annotate, pixel_share
from wamlab.world.camera import Camera
from wamlab.world.description import describe
from wamlab.world.images import depth_png, jpeg, semantic_png
from wamlab.world.recording import CanBus, Film, Recording
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world

_BATCH = 8  # frames drawn at once
_MAP_RESOLUTION_M = 0.2
#: Frames of a clip at 12 Hz: what the paper's V-JEPA 2 reads.
CLIP_FRAMES = 16
#: Clips end at the last 3 of every 20 keyframes (`every_nth`): neighbours share sweeps, so that three need 23 where apart they need 39.
CLIPS = (20, 3)


@dataclass(frozen=True)
class Sensors:
    """What a drive is taken with.

    Attributes:
        cameras: the first is CAM_FRONT.
        sweeps: the cameras take 12 images a second instead of the two of the keyframes.
        clips: (every, run): the front camera does so for the `CLIP_FRAMES` that end with a keyframe of `every_nth`; None: nowhere.
            These sweeps have no labels.
        lidar: a pseudo-lidar, LIDAR_TOP, takes points at the keyframes (`wamlab.world.lidar`).
        depth: depth images are kept beside the semantic ones.
    """

    cameras: tuple[Camera, ...] = (Camera(),)
    sweeps: bool = False
    lidar: bool = False
    depth: bool = False
    clips: tuple[int, int] | None = CLIPS

    def __post_init__(self) -> None:
        if self.clips and not 1 <= self.clips[1] <= self.clips[0]:
            raise InvalidParameter(f"clips must be (every, run) with 1 <= run <= every, not {self.clips}")
        names = [camera.name for camera in self.cameras]
        if not names or names[0] != "CAM_FRONT" or len(set(names)) < len(names):
            raise InvalidParameter(f"cameras must be different ones, CAM_FRONT the first of them, not {names}")
        if wrong := [name for name in names if not re.fullmatch("CAM(_[A-Z]+)+", name)]:
            raise InvalidParameter(f"a camera's name must be like CAM_BACK_LEFT, not {wrong[0]!r}")


def record(
    name: str, split: str, spec: SceneSpec, start_us: int, sensors: Sensors | None = None, device: str = "cpu"
) -> Recording:
    """Drive one scene and film it. The same on any machine's CPU."""
    sensors = sensors or Sensors()
    world = make_world(spec)
    log = world.simulate()[: round(spec.duration_s / STEP_S)]
    times_us = start_us + np.round(np.arange(len(log)) * STEP_S * 1e6).astype(np.int64)
    pose = np.array([s.ego.pose for s in log])
    key = slice(None, None, KEYFRAME_STEPS)
    keyframes = log[key]

    films, shares = [], []
    for camera in sensors.cameras:
        film, seen = _film(world, camera, log, times_us, pose, sensors, device)
        films.append(film)
        shares.append(pixel_share(world, keyframes, camera, seen))
    points = None
    if sensors.lidar:
        points = lidar.scan(world, keyframes, device)
        films.append(lidar.film(points, times_us[key], pose[key]))
    tracks = tuple(annotate(world, keyframes, np.max(shares, 0), points))
    return Recording(
        name=name,
        split=split,
        description=describe(world, log, tracks),
        timestamps_us=times_us[key],
        ego_pose=pose[key],
        films=tuple(films),
        can=_can_bus(log, times_us),
        agents=tracks,
        route=world.route.points,
        map_mask=_map_mask(world),
        map_resolution_m=_MAP_RESOLUTION_M,
        attributes={**world.look.attributes, "place": spec.place},
        world=asdict(spec),
    )


def _film(
    world: World,
    camera: Camera,
    log: list[State],
    times_us: np.ndarray,
    pose: np.ndarray,
    sensors: Sensors,
    device: str,
) -> tuple[Film, np.ndarray]:
    """What one camera takes; and how many pixels of each agent it sees at the keyframes, (T, N).

    Images are encoded as soon as they are drawn: a drive of six cameras at 12 Hz is half a gigabyte of pixels.
    """
    from wamlab.world.render import Renderer

    renderer, num_agents = Renderer(world, camera, device), len(world.agents)
    steps = _steps(len(log), sensors, camera)
    shots, semantic, depth, seen = [], [], [], []
    for first in range(0, len(steps), _BATCH):
        batch = steps[first : first + _BATCH]
        drawn = renderer([log[k] for k in batch])
        shots += [jpeg(f) for f in drawn.rgb.permute(0, 2, 3, 1).cpu().numpy()]
        keyframe = batch % KEYFRAME_STEPS == 0
        labelled = keyframe | sensors.sweeps
        semantic += [semantic_png(f) if k else b"" for f, k in zip(drawn.semantic.cpu().numpy(), labelled, strict=True)]
        if sensors.depth:
            depth += [depth_png(f) if k else b"" for f, k in zip(drawn.depth_m.cpu().numpy(), labelled, strict=True)]
        instance = drawn.instance.cpu().numpy()[keyframe]
        seen += [np.bincount(i.ravel(), minlength=num_agents + 1)[1:] for i in instance]
    film = Film(
        channel=camera.name,
        translation_m=np.array(camera.position_m),
        rotation=camera.quaternion,
        timestamps_us=times_us[steps],
        ego_pose=pose[steps],
        shots=tuple(shots),
        intrinsics=camera.intrinsics,
        size=(camera.width, camera.height),
        labels={"semantic": tuple(semantic)} | ({"depth": tuple(depth)} if sensors.depth else {}),
    )
    return film, np.array(seen)


def _steps(num_steps: int, sensors: Sensors, camera: Camera) -> np.ndarray:
    """The steps of the log at which a camera takes an image: the keyframes, and what `sweeps` and `clips` add."""
    keyframes = np.arange(0, num_steps, KEYFRAME_STEPS)
    if sensors.sweeps:
        return np.arange(keyframes[-1] + 1)
    if not sensors.clips or camera != sensors.cameras[0]:
        return keyframes
    ends = keyframes[every_nth(len(keyframes), *sensors.clips)]
    swept = (ends[:, None] - np.arange(CLIP_FRAMES)).ravel()
    return np.union1d(keyframes, swept[swept >= 0])


def _can_bus(log: list[State], times_us: np.ndarray) -> CanBus:
    speed = np.array([s.ego.speed_mps for s in log])
    accel = np.array([s.ego.accel_mps2 for s in log])
    yaw_rate = np.array([s.ego.yaw_rate_radps for s in log])
    return CanBus(
        timestamps_us=times_us,
        pose=np.array([s.ego.pose for s in log]),
        speed_mps=speed,
        accel_mps2=np.stack([accel, speed * yaw_rate], -1),
        yaw_rate_radps=yaw_rate,
        steering_rad=np.array([s.ego.steering_rad for s in log]),
        brake=np.clip(-accel / 7, 0, 1),
        throttle=np.clip(accel / 2.5, 0, 1),
    )


def _map_mask(world: World) -> np.ndarray:
    """Carriageways as a (rows, columns) mask of 0 and 255, row 0 at the top."""
    columns, rows = (int(np.ceil(v / _MAP_RESOLUTION_M)) for v in world.map.size_m)
    mask = np.zeros((rows, columns), np.uint8)
    for road in world.map.roads:
        line = np.round(road.points / _MAP_RESOLUTION_M * 16).astype(np.int32)
        line[:, 1] = rows * 16 - line[:, 1]
        width = round(2 * road.half_width_m / _MAP_RESOLUTION_M)
        cv2.polylines(mask, [line.reshape(-1, 1, 2)], False, 255, width, cv2.LINE_8, 4)
    return mask
