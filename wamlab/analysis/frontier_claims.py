"""What DiT-WAM says about nearness and realism, as contrasts between points of the plane, and the answer in words. No model runs here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from wamlab import statistics
from wamlab.analysis.claims import Claim
from wamlab.analysis.frontier import CEILING, said
from wamlab.analysis.plane import APART, OFF
from wamlab.statistics import Interval, Undefined

#: Nearer to training frames than this share of the held-out frames' distance counts as repeating them.
REPEATED = 0.9

#: Standard deviation of uncalibrated diffusion's latents over the truth's, by channel, as the authors' code has it.
PAPER_SPREAD = (2.4, 2.9)

CLAIMS = (
    Claim(
        "distortion",
        "Direct regression is nearer to the truth than diffusion (difference in cosine similarity)",
        "CosSim .471 against .233",
        "cosine", {"direct": 1, "diffusion": -1},
    ),
    Claim(
        "pixels",
        "It is nearer in pixels, too (difference in RMSE)",
        "direct wins every distortion metric",
        "rmse", {"direct": 1, "diffusion": -1}, claimed=-1, unit="grey levels",
    ),
    Claim(
        "realism",
        "Diffusion looks more like real frames than direct regression, even uncalibrated (difference in kernel distance)",
        "KID .294 against .375",
        "kd", {"diffusion": 1, "direct": -1}, claimed=-1,
    ),
    Claim(
        "dispersion",
        "Uncalibrated diffusion scatters more than real frames do (standard deviation of its latents over the truth's, above 1)",
        f"{PAPER_SPREAD[0]} to {PAPER_SPREAD[1]} times, by the authors' code",
        "sigma", {"diffusion": 1}, threshold=1,
    ),
    Claim(
        "calibration",
        "Calibration on training scenes makes diffusion look more like real frames (difference in kernel distance)",
        "KID .078 against .294",
        "kd", {"diffusion, calibrated": 1, "diffusion": -1}, claimed=-1,
    ),
    Claim(
        "calibration, nearness",
        "And it brings it nearer to the truth (difference in cosine similarity)",
        "CosSim .260 against .233",
        "cosine", {"diffusion, calibrated": 1, "diffusion": -1},
    ),
    Claim(
        "oracle",
        "It gains more than half of the realism that a calibration on the test windows themselves would gain (share)",
        "recovers the oracle calibration",
        "kd", {"diffusion": 1, "diffusion, calibrated": -1}, {"diffusion": 1, "diffusion, oracle calibration": -1}, threshold=0.5,
    ),
    Claim(
        "like for like",
        "Calibrated diffusion looks more real than direct regression that is calibrated in the same way (difference in kernel distance)",
        "not reported: .078 against .375 is against uncalibrated direct",
        "kd", {"diffusion, calibrated": 1, "direct, calibrated": -1}, claimed=-1,
    ),
    Claim(
        "interpolation",
        "Halfway between direct and diffusion, frames look more real than direct's (difference in kernel distance)",
        "KID .084 against .375",
        "kd", {"interpolation, α = 0.5": 1, "direct": -1}, claimed=-1,
    ),
    Claim(
        "interpolation, nearness",
        "And they are nearer to the truth than diffusion's (difference in cosine similarity)",
        "CosSim .316 against .233",
        "cosine", {"interpolation, α = 0.5": 1, "diffusion": -1},
    ),
    Claim(
        "memorization",
        "Diffusion does not repeat the training set: its frames are as far from their nearest training frame as held-out frames are "
        f"(ratio, above {REPEATED})",
        "distances do not indicate copying",
        "nearest", {"diffusion": 1}, {CEILING: 1}, threshold=REPEATED,
    ),
    Claim(
        "diversity",
        "Two draws of one future differ as much as a draw differs from the truth (ratio of RMS distances of latents, above 0.5)",
        "not reported",
        "apart", {APART: 1}, {OFF: 1}, threshold=0.5,
    ),
)  # fmt: skip


def trade_off(levels: pd.DataFrame, rivals: Sequence[str]) -> Claim | None:
    """That the nearest of the rivals is not the most real one: its kernel distance minus the least of the others', or None without any.

    levels: of one step. That the two are picked by what is then tested makes the difference look larger than it is, if they are close.
    """
    wide = levels.pivot(index="variant", columns="metric", values="mean").reindex(columns=["cosine", "kd"])
    wide = wide.loc[[name for name in rivals if name in wide.index]].dropna()
    if len(wide) < 2:
        return None
    nearest = wide.cosine.idxmax()
    most_real = wide.kd.drop(nearest).idxmin()
    return Claim(
        "trade-off",
        f"No model wins both: the nearest to the truth ({nearest}) looks less real than another ({most_real}; "
        "difference in kernel distance)",
        "an empirical frontier: direct wins distortion, diffusion realism",
        "kd", {nearest: 1, most_real: -1},
    )  # fmt: skip


def answer(
    levels: pd.DataFrame, rivals: Sequence[str], names: dict[str, str], claim: Claim | None, found: Interval | Undefined,
    time_s: float,
) -> str:  # fmt: skip
    """In a few sentences, from the levels at the last step. `names`: what a reader calls the rivals."""
    rows = {(row.metric, row.variant): row for row in levels.itertuples()}

    def level(metric: str, name: str) -> str:
        return said(rows[metric, name])

    nearest = max((name for name in rivals if ("cosine", name) in rows), key=lambda name: rows["cosine", name].mean)
    text = (
        f"Of the models, {names[nearest]} comes nearest to the truth {time_s:g} s ahead (cosine similarity "
        f"{level('cosine', nearest)}, {rows['cosine', nearest].n} held-out drives)"
    )
    if claim is None:
        return f"{text}. How real its pictures look could not be measured: there are too few frames."
    most_real = list(claim.of)[1]
    verdict, plain = statistics.verdict(found, claim.claimed, claim.threshold), ("kd", "direct, calibrated")
    if verdict == statistics.NOT_REPRODUCED:
        text += f", and its pictures look more real than any other's (kernel distance {level('kd', nearest)}): here one model wins both."
    elif verdict == statistics.INCONCLUSIVE:
        text += (
            f". Whether its pictures look less real than those of {names[most_real]} cannot be said from these drives "
            f"(kernel distance {level('kd', nearest)} against {level('kd', most_real)})."
        )
    else:
        text += (
            f", but its pictures look less real than those of {names[most_real]} (kernel distance from real pictures "
            f"{level('kd', nearest)} against {level('kd', most_real)}): no model wins both."
        )
    if plain in rows and ("kd", "direct") in rows:
        before = rows["kd", "direct"].mean
        text += (
            f" Calibration, which adds no detail, takes that of the direct model from {before:.3g} to {level(*plain)}."
        )
    return text
