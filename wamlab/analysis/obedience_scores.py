"""From what steering sweeps gave in each drive to scores with intervals, the paper's claims, and the answer in words. Runs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wamlab import statistics
from wamlab.analysis.claims import crossed
from wamlab.analysis.controllability import action_effect
from wamlab.analysis.rollouts import TRUTH
from wamlab.models import BASELINES
from wamlab.statistics import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Interval, Undefined
from wamlab.types import Finding

ANCHOR = "anchor"
#: Score -> the columns of `Measured.cells` of which it is a ratio; without a second one, a mean over all drives.
SCORES: Mapping[str, tuple[str, str | None]] = {
    "valid": ("valid", None),
    "rho": ("rho", "valid"),
    "rho_all": ("rho", None),
    "monotone": ("monotone", "valid"),
    "sign": ("sign", "valid"),
    "slope": ("along", "squared"),
    "paper_valid": ("paper_valid", None),
    "paper_rho": ("paper_rho", "paper_valid"),
    "paper_positive": ("paper_positive", "paper_valid"),
}
#: What an answer calls the models.
NOUNS = {
    "direct": "the direct model",
    "diffusion": "the diffusion model",
    "jump": "the jump chain",
    "jump-diffusion": "the diffusion jump chain",
}


@dataclass(frozen=True)
class Measured:
    """What the sweeps of S drives gave, a row each. A baseline, which no seed changes, has the first seed only.

    Attributes:
        angles_rad: (A,) of the sweep. scenes: of the presents. times_s: future frame -> seconds from the present.
        frame, guidance: of the headline numbers.
        cells: candidate, guidance, seed, frame, scene, and the columns of `Sweep.cells`.
        shifts: candidate, seed, frame, scene, angle_rad, shift_px.
        recovered: candidate, seed, scene, asked_rad, named_rad.
        errors: candidate, seed, scene, error, chance: of inverse control, rad.
        actions: of `wrong_actions`, all seeds; empty where there is one drive only.
    """

    angles_rad: np.ndarray
    scenes: tuple[str, ...]
    times_s: Mapping[int, float]
    frame: int
    guidance: float
    cells: pd.DataFrame
    shifts: pd.DataFrame
    recovered: pd.DataFrame
    errors: pd.DataFrame
    actions: pd.DataFrame

    def of(self, column: str, name: str, frame: int | None = None, guidance: float | None = None) -> np.ndarray:
        """(S, K) of a column of `cells` or `errors`, drives × seeds, at the headline frame and guidance unless others are named."""
        table = self.errors if column in self.errors else self.cells
        if column not in table:
            return np.empty((0, 0))
        rows = table[table.candidate == name]
        if table is self.cells:
            rows = rows[rows.frame == (self.frame if frame is None else frame)]
            rows = rows[rows.guidance == (self.guidance if guidance is None else guidance)]
        return rows.pivot(index="scene", columns="seed", values=column).to_numpy(float)

    def score(
        self, score: str, name: str, rng: np.random.Generator, frame: int | None = None, guidance: float | None = None
    ) -> Interval | Undefined:
        """One of `SCORES`."""
        of, per = SCORES[score]
        top = self.of(of, name, frame, guidance)
        return ratio(top, np.ones_like(top) if per is None else self.of(per, name, frame, guidance), rng)


def ratio(top: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> Interval | Undefined:
    """sum(top) / sum(below) of (S drives, K seeds), with its interval over drives, and over seeds where there are several.

    Drives whose denominators are all 0 have no say and are not counted. With several seeds the interval is that of the ratio's first-order
    expansion. Undefined where fewer than two drives are left. Arrays of one seed fit those of several.
    """
    top, below = np.broadcast_arrays(top, below)
    there = (below > 0).any(1) & np.isfinite(top).all(1)
    if (n := int(there.sum())) < 2:
        return Undefined(f"{n} of {len(there)} drives count, an interval needs two", n)
    top, below = top[there], below[there]
    if top.shape[1] == 1:
        return statistics.bootstrap_ratio(top[:, 0], below[:, 0], rng)
    middle = top.sum() / below.sum()
    return crossed(middle + (top - middle * below) / below.mean(), rng)


def relative_error(m: Measured, name: str, rng: np.random.Generator) -> Interval | Undefined:
    """Error of inverse control over that of always naming the middle of the sweep; undefined where no picture moves."""
    valid = m.of("valid", name)
    if not valid.any():
        return Undefined(f"in none of {len(valid)} drives does the picture move")
    return ratio(m.of("error", name), m.of("chance", name), rng)


def effects(m: Measured, rng: np.random.Generator) -> dict[str, Interval | Undefined]:
    """`action_effect` of every candidate, undefined with one drive."""
    if m.actions.empty:
        return {}
    return dict(action_effect(m.actions, rng))


def judge(
    m: Measured, effect: Mapping[str, Interval | Undefined], measured_on: str, rng: np.random.Generator
) -> dict[str, Finding]:
    """The paper's claims that these candidates can be asked about, by a key."""
    names, last = set(m.cells.candidate), max(m.times_s)
    when = f"{m.times_s[m.frame]:g} s ahead"
    found: dict[str, Finding] = {}

    def claim(
        key: str, needs: Sequence[str], text: str, paper: str, number: Interval | Undefined, **rule: float
    ) -> None:
        if names.issuperset(needs):
            found[key] = statistics.finding(text, paper, number, measured_on, **rule)

    def both(a: tuple[str, float], b: tuple[str, float]) -> Interval | Undefined:
        """How much more the shifts of a follow the wheel than those of b at the end, in drives where both move."""
        (x, y), (v, w) = ([m.of(c, name, last, g) for name, g in (a, b)] for c in ("rho", "valid"))
        return ratio((x - y) * v * w, v * w, rng) if x.size and y.size else Undefined("it was not swept")

    own, end = m.guidance, f"{m.times_s[last]:g} s ahead"
    claim(
        "diffusion", ["diffusion"], f"The diffusion model obeys the wheel, {when} (rank correlation ρ of shift and angle)",
        "not reported", m.score("rho", "diffusion", rng),
    )  # fmt: skip
    claim(
        "diffusion, end", ["diffusion"], f"It does at the end of the horizon, {end} (ρ)",
        "ρ .813 on 18 of 40 drives, 8 s ahead", m.score("rho", "diffusion", rng, last),
    )  # fmt: skip
    claim(
        "direct", ["direct"], f"The direct model does not obey, {end} (ρ not above 0)",
        "ρ −.181 on 39 of 40 drives, 8 s ahead", m.score("rho", "direct", rng, last), claimed=-1,
    )  # fmt: skip
    claim(
        "difference", ["direct", "diffusion"], f"The diffusion model obeys better than the direct one, {end} (difference in ρ)",
        "ρ .813 against −.181", both(("diffusion", own), ("direct", own)),
    )  # fmt: skip
    most = float(m.cells[m.cells.candidate == "diffusion"].guidance.max()) if "diffusion" in names else own
    if most > 1:
        claim(
            "guidance", [], f"Guidance of weight {most:g} lowers the diffusion model's ρ, {end} (difference to weight 1)",
            "ρ .813, .659, .463 for weights 1, 2, 3", both(("diffusion", most), ("diffusion", 1.0)), claimed=-1,
        )  # fmt: skip
    claim(
        "inverse", ["diffusion"], "The steering can be read from the diffusion model's futures (error over chance, below 1)",
        ".671", relative_error(m, "diffusion", rng), claimed=-1, threshold=1,
    )  # fmt: skip
    claim(
        "inverse, direct", ["direct"], "It cannot be read from the direct model's (error over chance, above 1)",
        "1.242", relative_error(m, "direct", rng), threshold=1,
    )  # fmt: skip
    if {"direct", "diffusion"} <= names:
        gap = m.of("error", "diffusion") - m.of("error", "direct")
        claim(
            "inverse, difference", [], "It is read better from the diffusion model's than from the direct one's (difference)",
            ".671 against 1.242", ratio(gap, m.of("chance", "diffusion"), rng), claimed=-1,
        )  # fmt: skip
    claim(
        "actions", ["diffusion"], "With another drive's actions the diffusion model is farther from the truth (loss of cosine similarity)",
        "not reported", effect.get("diffusion", Undefined("there is one drive only")),
    )  # fmt: skip
    base = ANCHOR if ANCHOR in names else "copy"  # where the anchor stands still
    if {"diffusion", base, TRUTH} <= names:
        more = m.of("along", "diffusion") - m.of("along", base)
        claim(
            "learned", [], "Diffusion moves the picture farther with the wheel than its anchor alone (difference in slope)",
            "not reported", ratio(more, m.of("squared", TRUTH), rng),
        )  # fmt: skip
    return found


def answer(m: Measured, found: Mapping[str, Finding], rng: np.random.Generator) -> str:
    """Who obeys, how far beside the truth, how much of that is the anchor's, and whether the direct model does as in the paper."""
    names = list(m.cells.candidate.drop_duplicates())
    learned = [name for name in names if name not in (*BASELINES, ANCHOR, TRUTH)]
    rho = {name: m.score("rho", name, rng) for name in learned}
    still = [name for name in learned if not m.of("valid", name).any()]
    groups = {
        kind: [n for n in learned if n not in still and statistics.verdict(rho[n]) == kind]
        for kind in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
    }
    n, when = len(m.scenes), f"{m.times_s[m.frame]:g} s"
    drives = f"{n} held-out drive{'s' * (n != 1)}"
    parts = []
    if obey := groups[REPRODUCED]:
        means = sorted(float(rho[name].mean) for name in obey)
        span = f"{means[0]:.2f}" if f"{means[0]:.2f}" == f"{means[-1]:.2f}" else f"{means[0]:.2f} to {means[-1]:.2f}"
        whose = (
            "Every trained model's picture follows"
            if len(obey) == len(learned)
            else f"The pictures of {_list(obey)} follow"
        )
        parts.append(f"{whose} the wheel {when} after it is turned (rank correlation {span} over {drives}).")
    if against := groups[NOT_REPRODUCED]:
        whose = f"Those of {_list(against)} move" if len(against) > 1 else f"That of {_list(against)} moves"
        parts.append(f"{whose} against the wheel ({when} after it is turned, {drives}).")
    if still:
        whose = (
            "No trained model's picture moves"
            if len(still) == len(learned)
            else f"With {_list(still)} it does not move"
        )
        parts.append(f"{whose} with the wheel ({when} after it is turned, {drives}).")
    if open_ := groups[INCONCLUSIVE]:
        parts.append(f"Whether {_list(open_)} obey{'s' * (len(open_) == 1)} cannot be told here.")
    if not learned:
        parts.append("No model that learns was asked.")
    slopes = {name: m.score("slope", name, rng) for name in ("diffusion", ANCHOR) if name in names and TRUTH in names}
    slope, anchor = slopes.get("diffusion"), slopes.get(ANCHOR)
    if "diffusion" in still:
        slope = None
    if isinstance(slope, Interval):
        parts.append(
            f"Where the true picture moves by 10 pixels, the diffusion model's moves by {10 * slope.mean:.1f}."
        )
    if isinstance(slope, Interval) and isinstance(anchor, Interval) and "learned" in found:
        adds = {
            REPRODUCED: "what it learned on top moves it farther",
            NOT_REPRODUCED: "what it learned on top moves it less far",
            INCONCLUSIVE: "what it learned on top cannot be shown to move it farther",
        }[found["learned"].verdict]
        parts.append(
            f"Its anchor alone, the present shifted as speed and steering say, moves by {10 * anchor.mean:.1f}: {adds}."
        )
    last = max(m.times_s)
    ends = [m.score("rho", name, rng, last) for name in ("diffusion", TRUTH) if name in names]
    if last != m.frame and rho.keys() - still >= {"diffusion"} and all(isinstance(e, Interval) for e in ends):
        beside = f", and the truth's own {ends[1].mean:.2f}" if len(ends) > 1 else ""
        parts.append(
            f"After {m.times_s[last]:g} s the diffusion model's rank correlation is {ends[0].mean:.2f}{beside}."
        )
    if "direct" in obey:
        parts.append("Unlike in the paper, the direct model obeys, too.")
    elif "direct" in groups[NOT_REPRODUCED]:
        parts.append("As in the paper, the direct model does not obey.")
    return " ".join(parts)


def _list(names: Sequence[str]) -> str:
    nouns = [NOUNS.get(name, name) for name in names]
    return " and ".join(filter(None, [", ".join(nouns[:-1]), *nouns[-1:]]))
