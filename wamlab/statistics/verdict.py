"""The one rule by which a claim is called reproduced, not reproduced or inconclusive."""

from __future__ import annotations

from wamlab.statistics.bootstrap import Interval, Undefined
from wamlab.types import Finding

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"


def verdict(found: Interval | Undefined, claimed: float = 1.0, threshold: float = 0.0) -> str:
    """Whether a difference has the claimed sign: its interval must lie wholly on that side of `threshold`, or wholly on the other.

    What could not be measured is inconclusive.
    """
    if isinstance(found, Undefined):
        return INCONCLUSIVE
    low, high = sorted(claimed * (float(end) - threshold) for end in (found.low, found.high))
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE


def finding(
    claim: str,
    paper: str,
    found: Interval | Undefined,
    measured_on: str,
    claimed: float = 1.0,
    threshold: float = 0.0,
    unit: str = "",
) -> Finding:
    """A card with its verdict, which nobody writes by hand. Where nothing was measured it has no number, and says why."""
    judged = verdict(found, claimed, threshold)
    if isinstance(found, Undefined):
        return Finding(claim, paper, None, None, unit, judged, f"{measured_on}; {found}")
    return Finding(claim, paper, float(found.mean), (float(found.low), float(found.high)), unit, judged, measured_on)
