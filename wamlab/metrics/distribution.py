"""How far one set of pictures is from another: Fréchet and kernel distances of their features, streamed, with all that decides them.

Lower is better; the distance of a set from itself is 0. They are called FID and KID with the features of Inception-v3 alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wamlab.errors import InvalidParameter, InvalidShape, TooFewSamples
from wamlab.metrics.features import Extractor, FeatureStream, SampleList, factor, sample_hash
from wamlab.statistics import Interval, pseudo_values

#: A jackknife over more scenes than this leaves out groups of them.
MAX_GROUPS = 30


@dataclass(frozen=True)
class Distance:
    """A distance between two sets of frames.

    Attributes:
        name: `FID`, `KID`, `FD[encoder]` or `KD[encoder]`.
        interval: the distance; its 95 % jackknife interval over the `n` scenes of either set, each left out in turn with all its frames.
        extractor: of the features. preds, target: the frames of the two sets.
        constant: how many of the features are the same number in all frames of preds, and of target: such a feature tells nothing, and
            many of them say that frames or extractor are broken.
        settings: of the kernel distance: subset_size, num_subsets, degree, seed, and std, the standard deviation over the subsets.
    """

    name: str
    interval: Interval
    extractor: Extractor
    preds: SampleList
    target: SampleList
    constant: tuple[int, int]
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return float(self.interval.mean)

    def __str__(self) -> str:
        lines = [
            f"{self.name} ↓ {self.value:.4g} [{self.interval.low:.4g}, {self.interval.high:.4g}]",
            f"preds {self.preds}, target {self.target}",
            f"features {self.extractor.name} {self.extractor.digest[:12]}, pixels {self.extractor.normalisation}",
        ]
        if self.settings:
            lines.append(", ".join(f"{k} {v:.4g}" for k, v in self.settings.items()))
        if any(self.constant):
            lines.append(f"constant features: {self.constant[0]} in preds, {self.constant[1]} in target")
        return "\n  ".join(lines)


def frechet_distance(preds: FeatureStream, target: FeatureStream) -> Distance:
    """|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) of the features of two sets (Heusel et al. 2017), over all frames.

    It is biased upwards where there are few frames: compare only distances of equally many.

    Raises `TooFewSamples` for fewer than two scenes in a set, `InvalidShape` for features of different extractors.
    """
    _check(preds, target)
    value = _frechet(preds.mean, preds.factor(), target.mean, target.factor())
    (x, in_x), (y, in_y) = preds.kept, target.kept
    groups = _groups(in_x, in_y)
    left = [
        _frechet(p.mean(0), factor(p), t.mean(0), factor(t))
        for p, t in ((x[~np.isin(in_x, g)], y[~np.isin(in_y, g)]) for g in groups)
    ]
    return _distance("F", value, np.array(left), preds, target, floor=0.0)


def kernel_distance(
    preds: FeatureStream,
    target: FeatureStream,
    subset_size: int = 50,
    num_subsets: int = 100,
    degree: int = 3,
    seed: int = 0,
) -> Distance:
    """Squared maximum mean discrepancy under k(x, y) = (x·y / d + 1)^degree, unbiased (Bińkowski et al. 2018): it may be below 0.

    Where preds and target are of the same windows, each frame has its own truth among the others, which pulls the distance down: decoded
    true latents come out below 0. Judge by that ceiling, not by 0.

    The mean over `num_subsets` random subsets of `subset_size` of the kept frames of each set, drawn without replacement.

    Raises `TooFewSamples` where a set keeps fewer frames than the subsets have, or has fewer than two scenes, `InvalidParameter` for a
    subset size below 2, no subsets or a degree below 1, and `InvalidShape` as `frechet_distance`.
    """
    if subset_size < 2 or num_subsets < 1 or degree < 1:
        raise InvalidParameter(
            "subset_size must be at least 2, num_subsets and degree at least 1, "
            f"not {subset_size}, {num_subsets} and {degree}"
        )
    _check(preds, target, subset_size)
    (x, in_x), (y, in_y) = preds.kept, target.kept
    kernels = _kernels(x, y, degree)
    generator = torch.Generator().manual_seed(seed)
    drawn = [_subsets(len(z), subset_size, num_subsets, generator) for z in (x, y)]
    values = _mmd(*kernels, *drawn).numpy()
    groups = _groups(in_x, in_y)
    outside = [_outside(names, groups) for names in (in_x, in_y)]
    settings = {"subset_size": subset_size, "num_subsets": num_subsets, "degree": degree, "seed": seed}
    settings["std"] = float(values.std())
    return _distance("K", values.mean(), _mmd(*kernels, *outside).numpy(), preds, target, settings=settings)


def kernel_by_scene(preds: FeatureStream, target: FeatureStream, degree: int = 3) -> dict[str, float]:
    """`kernel_distance` over all kept frames at once, as a jackknife value of each scene (see `pseudo_values`), in the scenes' order.

    Raises `TooFewSamples` for fewer than two scenes, or where a set without one of its scenes has fewer than two frames, and `InvalidShape`
    as `frechet_distance`.
    """
    _check(preds, target)
    (x, in_x), (y, in_y) = preds.kept, target.kept
    scenes = sorted({*in_x, *in_y})
    inside = [torch.cat([torch.ones(1, len(names)).double(), _outside(names, scenes)]) for names in (in_x, in_y)]
    if min(rows.sum(1).min() for rows in inside) < 2:
        raise TooFewSamples(
            f"without one of its {len(scenes)} scenes a set has fewer than two frames, so the distance has no interval: "
            "give frames of three scenes or more, or more frames of each"
        )
    whole, *left = _mmd(*_kernels(x, y, degree), *inside).numpy()
    return dict(zip(scenes, pseudo_values(whole, np.array(left)).tolist(), strict=True))


def _distance(
    kind: str,
    value: float,
    left: np.ndarray,
    preds: FeatureStream,
    target: FeatureStream,
    floor: float = -np.inf,
    settings: Mapping[str, float] | None = None,
) -> Distance:
    """The jackknife: from the distances `left` (G,) without each group of scenes, a t interval with G - 1 degrees of freedom."""
    from scipy.special import stdtrit

    groups = len(left)
    half = stdtrit(groups - 1, 0.975) * np.sqrt((groups - 1) * left.var())
    n = len({*preds.samples.scenes} | {*target.samples.scenes})
    interval = Interval(float(value), float(max(floor, value - half)), float(value + half), n)
    name, constant = preds.extractor.label(kind), (preds.constant, target.constant)
    return Distance(name, interval, preds.extractor, preds.samples, target.samples, constant, settings or {})


def _check(preds: FeatureStream, target: FeatureStream, subset_size: int = 2) -> None:
    if preds.extractor.digest != target.extractor.digest:
        names = [f"{s.extractor.name} {s.extractor.digest[:12]}" for s in (preds, target)]
        raise InvalidShape(f"features of different extractors cannot be compared: {names[0]} and {names[1]}")
    for name, stream in (("preds", preds), ("target", target)):
        kept = min(len(stream), stream.capacity)
        if kept < subset_size:
            raise TooFewSamples(
                f"{name} keep {kept} frames (of {len(stream)}, capacity {stream.capacity}), fewer than the {subset_size} that the distance "
                "draws: give more frames, or a smaller subset_size (the papers take min(50, N)), and say so beside the number"
            )
        if len(stream.samples.scenes) < 2:
            raise TooFewSamples(
                f"{name} are frames of one scene only ({next(iter(stream.samples.scenes))}): frames of one drive are not independent, "
                "so the distance has no interval; give frames of two scenes or more"
            )


def _groups(in_x: np.ndarray, in_y: np.ndarray) -> list[np.ndarray]:
    """The scenes of both sets in at most `MAX_GROUPS` groups of nearly equal size, those that leave frames enough when left out."""
    scenes = np.array(sorted({*in_x, *in_y}, key=lambda scene: sample_hash((scene, 0))))
    size = -(-len(scenes) // MAX_GROUPS)
    groups = np.array_split(scenes, -(-len(scenes) // size))
    groups = [g for g in groups if min((~np.isin(names, g)).sum() for names in (in_x, in_y)) >= 2]
    if len(groups) < 2:
        raise TooFewSamples("a set of two frames has no interval: give frames of three scenes, or more frames of each")
    return groups


def _frechet(mean_x: Tensor, x: Tensor, mean_y: Tensor, y: Tensor) -> float:
    """The distance from means (d,) and factors (r, d): tr (Σ₁ Σ₂)^½ is the sum of the singular values of R₁ R₂ᵀ."""
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return float((mean_x - mean_y).square().sum() + spread.clamp(min=0))


def _kernels(x: Tensor, y: Tensor, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """k(x, x) (m, m), k(y, y) (n, n) and k(x, y) (m, n) of features (m, d) and (n, d)."""
    xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** degree for a, b in ((x, x), (y, y), (x, y)))
    return xx, yy, xy


def _outside(names: np.ndarray, groups: Sequence[np.ndarray | str]) -> Tensor:
    """(G, N) float64: ones for the frames that are of none of a group's scenes."""
    return torch.as_tensor(np.array([~np.isin(names, group) for group in groups])).double()


def _mmd(xx: Tensor, yy: Tensor, xy: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """(R,) unbiased squared MMD of R pairs of subsets, given as (R, K) of ones and zeros, from the kernel matrices of all."""
    m, n = in_x.sum(1), in_y.sum(1)
    inside_x = ((in_x @ xx) * in_x).sum(1) - in_x @ xx.diagonal()
    inside_y = ((in_y @ yy) * in_y).sum(1) - in_y @ yy.diagonal()
    return inside_x / (m * (m - 1)) + inside_y / (n * (n - 1)) - 2 * ((in_x @ xy) * in_y).sum(1) / (m * n)


def _subsets(count: int, size: int, num_subsets: int, generator: torch.Generator) -> Tensor:
    """(R, count) float64: ones for the `size` that each of R random subsets has."""
    lowest = torch.rand(num_subsets, count, generator=generator).argsort(1)[:, :size]
    return torch.zeros(num_subsets, count, dtype=torch.float64).scatter_(1, lowest, 1.0)
