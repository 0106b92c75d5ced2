"""What DiT-WAM says of rollouts, as differences between two models on the same frames, and how each is judged. No model runs here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab import statistics
from wamlab.analysis.rollout_measures import Measures, difference
from wamlab.types import Finding


@dataclass(frozen=True)
class Claim:
    """Model `a` minus model `b` in a metric, said to have the sign `claimed`; `whole`: over the whole rollout, not one reach."""

    claim: str
    paper: str
    metric: str
    a: str
    b: str
    claimed: float
    whole: bool = False


_COARSE = "1.02 against .56; by its authors' code, on one protocol, 1.02 against .998"
CLAIMS = (
    Claim(
        "Direct regression is closer to the truth than diffusion (difference in cosine similarity)",
        "CosSim .471 against .233 (nuScenes, 8 s)",
        "cosine", "direct", "diffusion", 1,
    ),
    Claim(
        "Direct regression is blurrier than diffusion (difference in sharpness, truth = 1)",
        "the regressor is a sharpness-collapsed blur",
        "sharpness", "direct", "diffusion", -1,
    ),
    Claim(
        "A copy of the present is closer to the truth than diffusion (difference in cosine similarity)",
        "copying wins at every step, .574 against .427 at the first",
        "cosine", "copy", "diffusion", 1,
    ),
    Claim(
        "Diffusion keeps the fine motion that direct regression loses (difference of ratios, truth = 1)",
        ".98 against .13",
        "high", "diffusion", "direct", 1,
    ),
    Claim(
        "Diffusion has less of the coarse motion than direct regression (difference of ratios, truth = 1)",
        ".44 against .56",
        "low", "diffusion", "direct", -1,
    ),
    Claim(
        "The jump chain has more of the coarse motion than one pass of direct regression (difference of ratios, truth = 1)",
        _COARSE,
        "low", "jump", "direct", 1,
    ),
    Claim(
        "The jump chain moves the picture more in the true direction than one pass of direct regression (difference in cosine)",
        ".48 against .41",
        "direction", "jump", "direct", 1,
    ),
    Claim(
        "Rolled on, too, the jump chain has more of the coarse motion than direct regression (difference of ratios)",
        _COARSE,
        "low", "jump", "direct", 1, whole=True,
    ),
    Claim(
        "Rolled on, too, the jump chain moves the picture more in the true direction (difference in cosine)",
        ".48 against .41",
        "direction", "jump", "direct", 1, whole=True,
    ),
    Claim(
        "The same, displacements by the paper's own measure (difference in cosine)",
        ".48 against .41",
        "paper_direction", "jump", "direct", 1, whole=True,
    ),
)  # fmt: skip


def judge(
    claim: Claim,
    near: Measures,
    found: Measures,
    reach_s: float,
    whole_s: float,
    measured_on: str,
    rng: np.random.Generator,
) -> Finding:
    """The claim's `Finding`; near and found: the measures over one reach and over the whole rollout, that many seconds ahead."""
    part, span_s = (found, whole_s) if claim.whole else (near, reach_s)
    value = difference(part, claim.a, claim.b, claim.metric, rng)
    return statistics.finding(claim.claim, claim.paper, value, f"{measured_on}, {span_s:g} s ahead", claim.claimed)
