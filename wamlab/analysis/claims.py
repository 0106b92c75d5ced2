"""What DiT-WAM says about when a transformer helps, as contrasts between variants, and the rule that judges each. No model runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wamlab import statistics
from wamlab.statistics import Interval, Undefined

#: Cosine similarities that differ by less count as alike.
MARGIN = 0.01
FIRST, LAST = "first", "last"
#: Weights of variants, or of (variant, `FIRST` or `LAST`), which is that variant at the first or last predicted frame alone.
Contrast = Mapping[str | tuple[str, str], float]


@dataclass(frozen=True)
class Claim:
    """A sum over variants, claimed to lie on one side of a threshold.

    Attributes:
        key: `H1` and so on.
        claim, paper: for the reader.
        metric: a column of the tables, as `evaluate` takes them.
        of: the sum that is measured, or its ratio to `per`.
        claimed: 1: above `threshold`; -1: below.
    """

    key: str
    claim: str
    paper: str
    metric: str
    of: Contrast
    per: Contrast | None = None
    claimed: float = 1
    threshold: float = 0
    unit: str = ""


def _minus(a: str, b: str) -> Contrast:
    return {a: 1.0, b: -1.0}


#: Ingredient -> the variant without it. All of them are compared with `diffusion`, which has all four.
INGREDIENTS = {
    "spatial tokens": "one token",
    "the x0 objective": "eps",
    "residual anchoring": "unanchored",
    "sampling": "one step",
}

HYPOTHESES = (
    Claim(
        "H1",
        f"Capacity is not missing: the transformer alone does as well as an MLP (difference in cosine similarity, above −{MARGIN})",
        "capacity rejected: DiT-direct matches the MLP",
        "cosine", _minus("pooled direct", "pooled mlp"), threshold=-MARGIN,
    ),
    Claim(
        "H2",
        "The objective is: predicting x0 instead of the noise recovers more than half of diffusion's gap to the MLP (share)",
        "objective confirmed: 88.5 % of the gap",
        "cosine", _minus("pooled x0", "pooled eps"), _minus("pooled mlp", "pooled eps"), threshold=0.5,
    ),
    Claim(
        "H3",
        "A longer horizon does not make up for it: at the last frame diffusion is still behind the MLP (difference in cosine similarity)",
        "horizon rejected: futures are near-unimodal",
        "cosine", {("pooled x0", LAST): 1, ("pooled mlp", LAST): -1}, claimed=-1,
    ),
    Claim(
        "H3, trend",
        "Nor does it shrink the gap (change of that difference from the first frame to the last)",
        "not reported",
        "cosine",
        {("pooled x0", LAST): 1, ("pooled mlp", LAST): -1, ("pooled x0", FIRST): -1, ("pooled mlp", FIRST): 1},
        claimed=-1, threshold=MARGIN,
    ),
    Claim(
        "H4",
        "Seeing the sequence of actions, not the first alone, helps the transformer more than the MLP (difference of differences)",
        "sequence partly confirmed, on three encoders",
        "cosine",
        {"pooled direct": 1, "pooled direct, first action": -1, "pooled mlp": -1, "pooled mlp, first action": 1},
    ),
)  # fmt: skip

SPATIAL_CLAIMS = (
    Claim(
        "architecture",
        "With spatial tokens and anchoring the transformer beats an MLP of as many parameters (difference in cosine similarity)",
        "DiT beats it on ViT and DINOv2, 12 M parameters",
        "cosine", _minus("direct", "mlp"),
    ),
    *(
        Claim(
            f"without {name}",
            f"Diffusion needs {name} (difference in cosine similarity, with and without)",
            "all four are necessary",
            "cosine", _minus("diffusion", variant),
        )
        for name, variant in INGREDIENTS.items() if name != "sampling"
    ),
    Claim(
        "without sampling",
        "Diffusion needs sampling: its one-step mean is farther from real pictures than a draw (difference in kernel distance)",
        "sampling matched to the target's uncertainty is necessary",
        "kd", _minus("one step", "diffusion"),
    ),
    Claim(
        "distortion",
        "Direct regression is closer to the one true future than diffusion (difference in cosine similarity)",
        "CosSim .471 against .233 (nuScenes, 8 s)",
        "cosine", _minus("direct", "diffusion"),
    ),
    Claim(
        "realism",
        "Diffusion's pictures are at least 3 times nearer to real ones: its kernel distance as a share of direct regression's (below 1/3)",
        "KID .078 calibrated, .294 raw, against .375",
        "kd", {"diffusion": 1}, {"direct": 1}, claimed=-1, threshold=1 / 3,
    ),
    Claim(
        "motion of jumps",
        "Re-anchored jumps move the picture more like the truth than the direct model (difference in the cosine of displacements)",
        "direction .48 against .41",
        "direction", _minus("jump", "direct"),
    ),
    Claim(
        "motion of draws",
        "The direct model moves the picture more like the truth than diffusion (difference in the cosine of displacements)",
        "displacement near zero for diffusion",
        "direction", _minus("direct", "diffusion"),
    ),
)  # fmt: skip

CLAIMS = (*HYPOTHESES, *SPATIAL_CLAIMS)


def evaluate(claim: Claim, tables: Sequence[pd.DataFrame], rng: np.random.Generator) -> Interval | Undefined:
    """The contrast with its interval over scenes and seeds, both taken as drawn from many.

    `tables` have the columns variant, seed, scene and metrics, the claim's in one of them (and time_s, where it asks for a frame). The
    interval of a ratio is that of its first-order expansion. A ratio is undefined where `per` is not surely above 0, as is anything
    measured on fewer than two scenes.
    """
    try:
        table = next(table for table in tables if claim.metric in table)
    except StopIteration:
        return Undefined(f"nothing of {claim.metric} was measured")
    asked = {name if isinstance(name, str) else name[0] for part in (claim.of, claim.per or {}) for name in part}
    if missing := asked - set(table.variant):
        return Undefined(f"{', '.join(sorted(missing))} was not measured")
    top = contrast(table, claim.metric, claim.of)
    below = top if claim.per is None else contrast(table, claim.metric, claim.per)
    common = top.dropna().index.intersection(below.dropna().index)
    if len(common) < 2:
        return Undefined(f"{len(common)} drives have a value, an interval needs two", len(common))
    top, below = top.loc[common].to_numpy(), below.loc[common].to_numpy()
    if claim.per is None:
        return crossed(top, rng)
    if crossed(below, rng).low <= 0:
        return Undefined("there is no gap to speak of, the interval of what it is a share of holds 0", len(common))
    ratio = top.mean() / below.mean()
    return crossed(ratio + (top - ratio * below) / below.mean(), rng)


def contrast(table: pd.DataFrame, metric: str, weights: Contrast) -> pd.DataFrame:
    """Scene × seed: the weighted sum over variants of `metric`, the mean over frames unless one is asked for."""
    total = 0.0
    for name, weight in weights.items():
        variant, when = (name, None) if isinstance(name, str) else name
        rows = table[table.variant == variant]
        if when:
            rows = rows[rows.time_s == (rows.time_s.min() if when == FIRST else rows.time_s.max())]
        total = total + weight * rows.groupby(["scene", "seed"])[metric].mean().unstack()
    return total


def crossed(values: np.ndarray, rng: np.random.Generator) -> Interval:
    """The mean of (N scenes, K seeds) with its interval; with one seed, over scenes alone."""
    return statistics.crossed_mean(values, rng) if values.shape[1] > 1 else statistics.bootstrap_mean(values[:, 0], rng)
