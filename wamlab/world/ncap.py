"""Crash tests brought to life: worlds in which a car that does nothing collides, and the score after NeuroNCAP. No driving.

What they are made of (Ljungbergh et al. 2024) is `scenarios`; who drives in them `scripted` or a policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from wamlab.errors import InvalidParameter
from wamlab.world.collision import relative_speed_mps
from wamlab.world.driver import EgoState
from wamlab.world.episode import Episode
from wamlab.world.junction import CYCLE_S, GREEN_S, passages
from wamlab.world.outcome import Outcome
from wamlab.world.population import populate
from wamlab.world.road import Path
from wamlab.world.scenarios import Scenario
from wamlab.world.simulation import SceneSpec, State, World, make_world

_DENSITY = 0.6
_CLEAR_M = 25.0  # other vehicles that would come nearer to the two are left out
_RUN_UP_M, _RUN_OUT_M = 75.0, 160.0  # of the route before the stop line of some crossing, and behind it


@dataclass(frozen=True, eq=False)
class CrashTest:
    """A scenario come to life: `world` is an ordinary world, in which agent `target` is the adversary.

    Attributes:
        reference_mps: v_r, the speed at which the two meet if the ego car keeps speed and lane.
        goal_m: where on the route it would then be at the end if there were no target.
    """

    scenario: Scenario
    world: World
    target: int
    reference_mps: float
    goal_m: float

    def episode(self, **options: Any) -> Episode:
        """An `Episode` of this test; `options` are those of `Episode`."""
        return Episode(self.world, max_duration_s=self.scenario.duration_s, goal_m=self.goal_m, **options)

    def score(self, outcome: Outcome) -> float:
        """See `ncap_score`; it is the first collision that counts."""
        impact = outcome.collisions[0].impact_mps if outcome.collisions else None
        return ncap_score(impact, self.reference_mps)


def ncap_score(impact_mps: float | None, reference_mps: float) -> float:
    """0 to 5: 5 without a collision (`impact_mps` is None), else 4 max(0, 1 - v_i / v_r) (NeuroNCAP; VaVAM, eq. 10).

    v_i is the magnitude of the relative velocity at the impact, v_r the same if nothing had been done. Raises `InvalidParameter` for
    speeds that cannot be.
    """
    if not (0 < reference_mps < np.inf and (impact_mps is None or 0 <= impact_mps < np.inf)):
        raise InvalidParameter(
            f"impact speeds must be finite, the reference positive: {impact_mps}, {reference_mps} m/s"
        )
    return 5.0 if impact_mps is None else 4.0 * max(0.0, 1 - impact_mps / reference_mps)


def crash_test(scenario: Scenario) -> CrashTest:
    """Bring a scenario to life. Deterministic.

    Raises `InvalidParameter` if no place on the map has room for it.
    """
    base = _base(scenario.scene, scenario.place, scenario.time, scenario.weather, scenario.side)
    rng = np.random.default_rng([scenario.scene, scenario.seed])
    starts = scenario.starts_m(base)
    if not len(starts):
        raise InvalidParameter(
            f"scene {scenario.scene} has no room for {scenario}; take a shorter ttc_s or another scene"
        )
    start_m = float(rng.choice(starts))
    path, meet = scenario.path(base, start_m)
    begin = meet - scenario.target_mps * scenario.ttc_s
    reached = base.route.points[base.route.s < start_m + scenario.speed_mps * scenario.duration_s + 30]
    people = populate(base.map, base.route, reached, _DENSITY, scenario.duration_s, rng)
    # nobody stands or walks where the target drives; it comes last
    people.keep_clear(path, scenario.size_m[1] / 2 + (1.3 if scenario.target_mps else scenario.size_m[0] / 2))
    people.go(scenario.target, path, begin, scenario.target_mps)
    agents, others = people.finish()
    x, y, yaw = (float(v) for v in base.route.at(start_m))
    world = replace(
        base,
        spec=replace(base.spec, duration_s=scenario.duration_s, density=_DENSITY),
        agents=agents,
        driver=replace(base.driver, speed_mps=scenario.speed_mps),
        signal_offsets=_green(base, start_m, scenario.speed_mps),
        start=State(0.0, EgoState(x, y, yaw, scenario.speed_mps), others),
    )
    world = _make_room(world, start_m)
    target = len(agents) - 1
    contact_s = start_m + scenario.speed_mps * scenario.ttc_s
    reference = relative_speed_mps(base.route.at(contact_s), scenario.speed_mps, path.at(meet), scenario.target_mps)
    return CrashTest(scenario, world, target, reference, start_m + scenario.speed_mps * scenario.duration_s)


@lru_cache(maxsize=32)
def _base(scene: int, place: str, time: str, weather: str, side: int) -> World:
    """The map of a scene: its ego car drives straight on next to the centre, and passes a crossing with room before and behind it."""
    for attempt in range(100):
        spec = SceneSpec(1000 * scene + attempt, place, time, weather, side=side, density=0.05, duration_s=20.0)
        world = make_world(spec)
        d = Path(world.map.roads[0].points).project(world.route.points)[1]
        inner = np.abs(d - world.map.lane_offset(0, 1, 0)).max() < 0.5
        room = [_RUN_UP_M < p.stop_m < world.route.length_m - _RUN_OUT_M for p in passages(world.map, world.route)]
        if inner and any(room):
            return world
    raise InvalidParameter(f"no {place} map of scene {scene} has a crossing with room for a crash test")


def _green(world: World, start_m: float, speed_mps: float) -> np.ndarray:
    """Signal offsets with which the ego car arrives in the middle of the green phase everywhere."""
    offsets = world.signal_offsets.copy()
    for p in passages(world.map, world.route):
        offsets[p.crossing] = (GREEN_S / 2 - (p.stop_m - start_m) / speed_mps - p.group * CYCLE_S / 2) % CYCLE_S
    return offsets


def _make_room(world: World, start_m: float) -> World:
    """Without the vehicles that may come near to the ego car or its target while the ego car keeps its lane and its speed.

    A vehicle may stand, go on as now, or drive as fast as it likes to.
    """
    agents, others, speed = world.agents, world.start.agents, world.start.ego.speed_mps
    taken = np.zeros(len(agents), bool)
    for t in np.arange(0.0, world.spec.duration_s, 0.5):
        own = world.route.at(start_m + speed * t)[:2]
        for pace in (0.0, others.speed_mps, agents.speed_mps):
            xy = agents.pose(replace(others, s_m=others.s_m + pace * t))[:, :2]
            target = agents.pose(replace(others, s_m=others.s_m + agents.speed_mps * t))[-1, :2]
            taken |= np.minimum(np.hypot(*(xy - own).T), np.hypot(*(xy - target).T)) < _CLEAR_M
    taken &= agents.drives
    others = replace(others, s_m=np.where(taken, np.inf, others.s_m), speed_mps=np.where(taken, 0.0, others.speed_mps))
    return replace(world, start=replace(world.start, agents=others))
