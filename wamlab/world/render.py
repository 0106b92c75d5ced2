"""From states of a `World` to what a camera on the car sees. The only module of the world that joins simulation and drawing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wamlab.world.camera import Camera
from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, REAR_AXLE_TO_CENTRE_M
from wamlab.world.ground import make_ground
from wamlab.world.objects import Shapes
from wamlab.world.primitives import Material, Primitives, Semantic, build, place, place_each, shape, vehicle_templates
from wamlab.world.raster import rasterize
from wamlab.world.shade import View, shade
from wamlab.world.simulation import State, World
from wamlab.world.traffic import signal

_REACH_M = 320.0
_AGENT_REACH_M = 160.0


@dataclass(frozen=True)
class Frames:
    """Images of B states: rgb (B, 3, H, W) uint8; depth_m (B, H, W) along the optical axis, inf for the sky; semantic (B, H, W) uint8
    of `Semantic`; instance (B, H, W) int32, 0 for what is no agent, else agent index + 1."""

    rgb: Tensor
    depth_m: Tensor
    semantic: Tensor
    instance: Tensor

    def __getitem__(self, index: slice) -> Frames:
        """The images of some of the states."""
        return Frames(self.rgb[index], self.depth_m[index], self.semantic[index], self.instance[index])


class Renderer:
    """Draws the states of one world. Holds the static tensors, so make one and call it often."""

    def __init__(self, world: World, camera: Camera | None = None, device: torch.device | str = "cpu") -> None:
        self.world, self.camera, self.device = world, camera or Camera(), torch.device(device)
        rng = np.random.default_rng(world.spec.seed)
        self.ground = make_ground(world.map, world.scenery.light, rng, self.device)
        self.bodies = _bodies(world)
        self.signals = _signal_sites(world)
        poles = [
            shape((x, y, 1.9), (0.06, 0.06, 1.9), (0.12, 0.12, 0.12), semantic=Semantic.POLE)
            for x, y, *_ in self.signals
        ]
        self.heads = build(
            [
                shape(
                    (x, y, 3.6),
                    (0.16, 0.17, 0.46),
                    (0.02, 0.02, 0.02),
                    yaw=yaw,
                    material=Material.SIGNAL,
                    semantic=Semantic.SIGNAL,
                )
                for x, y, yaw, *_ in self.signals
            ]
        )
        self.static = Shapes.of(Primitives.concatenate([world.scenery.shapes, build(poles)]), self.device)

    @torch.inference_mode()
    def __call__(self, states: list[State]) -> Frames:
        world, camera = self.world, self.camera
        ego = np.array([s.ego.pose for s in states])
        position, rotation = camera.pose(ego)
        moving, frame, casters = [], [], []
        for k, state in enumerate(states):
            prims, casts = self._moving(state, ego[k])
            moving.append(prims)
            frame.append(np.full(len(prims), k))
            casters.append(np.concatenate([np.full((len(casts), 1), k), casts], 1))
        shapes = self.static + Shapes.of(Primitives.concatenate(moving), self.device)
        owner = self._tensor(np.concatenate([np.full(len(self.static.yaw), -1), *frame]))
        visible = rasterize(
            shapes.centre, shapes.half, shapes.yaw, shapes.taper, shapes.ellipsoid, owner, self._tensor(position), self._tensor(rotation),
            camera.focal_px, camera.width, camera.height, _REACH_M if world.look.haze_per_m < 0.01 else 4 / world.look.haze_per_m,
        )  # fmt: skip
        view = View(
            self._tensor(position).float(), self._tensor(rotation).float(), torch.as_tensor(camera.rotation, dtype=torch.float32),
            camera.focal_px, camera.width, camera.height,
        )  # fmt: skip
        rain = None
        if world.look.weather == "rain":
            rain = self._tensor(np.array([(s.time_s * 7.31) % 1.0 for s in states])).float()
        rgb, semantic, instance = shade(
            visible,
            shapes,
            self.ground,
            world.look,
            view,
            self._tensor(np.concatenate(casters).T).float(),
            rain,
        )
        depth = 1 / visible.w.abs()  # infinite in the sky, where w is 0 or -0
        return Frames(rgb, depth, semantic, instance)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    def _heading(self, ego: np.ndarray) -> np.ndarray:
        yaw = ego[2] + self.camera.yaw_rad
        return np.array([np.cos(yaw), np.sin(yaw)])

    def _moving(self, state: State, ego: np.ndarray) -> tuple[Primitives, np.ndarray]:
        """Shapes of the agents near the car and of the lit signals, and what casts shadows: (n, 6)."""
        agents = self.world.agents
        bodies, casts = build([]), np.zeros((0, 6))
        if len(agents):
            pose = agents.pose(state.agents)
            offset = pose[:, :2] - ego[:2]
            distance = np.hypot(*offset.T)
            near = (distance < _AGENT_REACH_M) & (offset @ self._heading(ego) > -15)
            bodies = self.bodies[near[self.bodies.instance - 1]]
            who = bodies.instance - 1
            moved = place_each(bodies, pose[who])
            braking = (bodies.material == Material.PAINT) & (state.agents.accel_mps2[who] < -0.8)
            bodies = replace(moved, param=np.stack([braking, moved.param[:, 1]], 1))
            i = np.flatnonzero(near & (distance < 45))
            casts = np.concatenate([pose[i], agents.size_m[i] / np.array([2, 2, 1])], 1)
        own = np.array([[*_centre(ego), EGO_LENGTH_M / 2, EGO_WIDTH_M / 2, 1.4]])
        phase = [
            signal(state.time_s, crossing, group, self.world.signal_offsets) for *_, crossing, group in self.signals
        ]
        heads = replace(self.heads, param=np.column_stack([phase, np.zeros(len(phase))]))
        return Primitives.concatenate([bodies, heads]), np.concatenate([casts, own])


def _bodies(world: World) -> Primitives:
    """The shapes of all agents, each in its own frame; `instance` is the agent's index + 1."""
    templates, kinds, parts = vehicle_templates(), np.array(world.agents.kind), [build([])]
    for kind in sorted(set(world.agents.kind)):
        i = np.flatnonzero(kinds == kind)
        parts.append(place(templates[kind][1], np.zeros((len(i), 3)), world.agents.colour[i], i + 1))
    return Primitives.concatenate(parts)


def _centre(pose: np.ndarray) -> tuple[float, float, float]:
    x, y, yaw = pose
    return x + REAR_AXLE_TO_CENTRE_M * np.cos(yaw), y + REAR_AXLE_TO_CENTRE_M * np.sin(yaw), yaw


def _signal_sites(world: World) -> list[tuple[float, float, float, int, int]]:
    """One traffic light for each approach of each crossing, on its far side: x, y, heading of the approach, crossing, group."""
    sites, road_map = [], world.map
    if road_map.place == "rural":
        return sites
    for k, (a, sa, b, sb) in enumerate(road_map.crossings):
        for road_index, s, group, other in ((a, sa, 0, b), (b, sb, 1, a)):
            road = road_map.roads[road_index]
            reach = road_map.roads[other].half_width_m + 6.0
            for direction in (1, -1):
                d = -road_map.side * direction * (road.half_width_m + 0.9)
                x, y, yaw = road.at(s + direction * reach, d)
                sites.append((float(x), float(y), float(yaw + (0 if direction > 0 else np.pi)), k, group))
    return sites
