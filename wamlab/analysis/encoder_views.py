"""What each encoder looks at and what its patches tell apart, on drives to be shown: attribution, main components, age of what counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import statistics
from wamlab.analysis.feature_maps import colours, gradient_times_activation, heat
from wamlab.data.embeddings import EmbeddingStore
from wamlab.data.frames import load_frames
from wamlab.probing import TARGETS
from wamlab.probing.mlp import MlpProbe
from wamlab.render import to_hwc, to_uint8
from wamlab.types import ACTIONS, Scene

STEERING = TARGETS.index("steering_rad")


@dataclass(frozen=True)
class Look:
    """Some of the probed frames of one drive, and what encoders make of them.

    Attributes:
        scene: and `note`, its time and weather.
        times_s: (T,) from the first frame on; actions: (T, A), columns `ACTIONS`.
        camera: (T, R, R, 3) uint8.
        seen: encoder -> (T, H, W, 3) uint8, the part of `camera` that it sees.
        heat: encoder -> (T, h, w) in [0, 1], how much the probe's steering hangs on each patch.
        colours: encoder -> (T, h, w, 3) uint8, the three main components of its patches, common to all looks.
        errors: encoder -> (T,) rad, how far its probe is off the steering wheel's angle.
    """

    scene: str
    note: str
    times_s: np.ndarray
    actions: np.ndarray
    camera: np.ndarray
    seen: Mapping[str, np.ndarray]
    heat: Mapping[str, np.ndarray]
    colours: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]


def steering_score(probe: MlpProbe) -> Callable[[Tensor], Tensor]:
    """Embeddings (B, D) -> (B,): the steering wheel's angle that the probe tells, rad, mean over its seeds."""
    return lambda embeddings: probe(embeddings.cpu())[..., STEERING].mean(0)


def looks(
    stores: Mapping[str, EmbeddingStore],
    probes: Mapping[str, MlpProbe],
    scenes: Sequence[Scene],
    num_scenes: int,
    num_frames: int,
    resolution: int = 128,
) -> list[Look]:
    """The drives in which the wheel is turned most, one by day and one by night in turn, where it is turned most.

    Only frames that the stores embed are shown, since a clip need not be on disk elsewhere.
    """
    taken = {scene.name: next(iter(stores.values())).taken(scene) for scene in scenes}
    chosen = [(scene, _liveliest(scene, taken[scene.name], num_frames)) for scene in pick(scenes, taken, num_scenes)]
    whole = {name: _views(store, probes[name], chosen) for name, store in stores.items()}
    made, first = [], 0
    for scene, taken in chosen:
        part = slice(first, first := first + len(taken))
        camera = load_frames(scene, taken, resolution)
        truth = scene.actions[taken, ACTIONS.index("steering_rad")]
        made.append(Look(
            scene.name,
            ", ".join(scene.attributes[key] for key in ("time", "weather") if key in scene.attributes),
            scene.timestamps_s[taken] - scene.timestamps_s[taken[0]],
            scene.actions[taken],
            to_hwc(camera),
            {name: to_hwc(store.codec.visible(camera)) for name, store in stores.items()},
            {name: view[0][part] for name, view in whole.items()},
            {name: view[1][part] for name, view in whole.items()},
            {name: np.abs(view[2][part] - truth) for name, view in whole.items()},
        ))  # fmt: skip
    return made


def pick(scenes: Sequence[Scene], taken: Mapping[str, Sequence[int]], count: int) -> list[Scene]:
    """`count` of the scenes, those with the largest range of steering first, day and night in turn as long as there are both.

    `taken`: scene name -> the frames that count.
    """

    def turn(scene: Scene) -> float:
        return float(np.nan_to_num(np.ptp(scene.actions[list(taken[scene.name]), STEERING])))

    turned = sorted(scenes, key=turn, reverse=True)
    groups = [[s for s in turned if (s.attributes.get("time") == "night") == night] for night in (False, True)]
    ranked = sorted((rank, dark, s.name) for dark, group in enumerate(groups) for rank, s in enumerate(group))
    by_name = {scene.name: scene for scene in scenes}
    return [by_name[name] for *_, name in ranked[:count]]


def moments(store: EmbeddingStore, probe: MlpProbe, scenes: Sequence[Scene], rng: np.random.Generator) -> pd.DataFrame:
    """age_s, mean, low, high, n: which share of the steering that a probe tells from clips hangs on patches of what age.

    From the last frame of each scene; a share is of the patches' |gradient × activation|, of two frames each; its interval is over scenes.
    """
    shares = []
    for scene in scenes:
        weight = _attribution(store, probe, store.inputs(scene, [len(scene) - 1])).abs().sum((2, 3))  # (1, t)
        shares.append((weight / weight.sum().clamp_min(1e-12))[0].numpy())
    found = statistics.bootstrap_mean(np.stack(shares), rng)
    rate_hz = store.rate_hz or _rate_hz(store, scenes[0])
    frames = store.codec.num_frames // found.mean.size
    age_s = (np.arange(found.mean.size)[::-1] * frames + (frames - 1) / 2) / rate_hz
    return pd.DataFrame({"age_s": age_s, "mean": found.mean, "low": found.low, "high": found.high, "n": found.n})


def _rate_hz(store: EmbeddingStore, scene: Scene) -> float:
    from wamlab.data.clips import film_of

    return film_of(store.dataset, scene).rate_hz


def _liveliest(scene: Scene, taken: Sequence[int], count: int) -> list[int]:
    """`count` of the frames `taken`, in a row, in which the wheel moves most."""
    count = min(count, len(taken))
    steering = np.nan_to_num(scene.actions[list(taken), STEERING])
    ranges = [np.ptp(steering[t : t + count]) for t in range(len(taken) - count + 1)]
    start = int(np.argmax(ranges))
    return list(taken[start : start + count])


def _views(
    store: EmbeddingStore, probe: MlpProbe, chosen: Sequence[tuple[Scene, list[int]]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heat, colours and the steering that the probe tells, of all chosen frames together."""
    inputs = torch.cat([store.inputs(scene, taken) for scene, taken in chosen])
    warmth = heat(_attribution(store, probe, inputs)[:, -1])
    shown = to_hwc(to_uint8(colours(store.codec.features(inputs).cpu())))
    with torch.no_grad():
        told = steering_score(probe)(store.codec.encode(inputs))
    return warmth.numpy(), shown, told.numpy()


def _attribution(store: EmbeddingStore, probe: MlpProbe, inputs: Tensor) -> Tensor:
    """(N, t, h, w) signed gradient × activation of the probe's steering."""
    activations, gradients = (x.cpu() for x in store.codec.activations(inputs, steering_score(probe)))
    return gradient_times_activation(activations.flatten(0, 1), gradients.flatten(0, 1)).unflatten(
        0, activations.shape[:2]
    )
