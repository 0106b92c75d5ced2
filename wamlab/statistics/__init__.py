"""Means, intervals and paired comparisons with the scene as the unit of analysis: windows of one drive are not independent."""

from wamlab.statistics.bootstrap import (
    CROSSED,
    METHODS,
    Interval,
    Undefined,
    bootstrap_mean,
    bootstrap_ratio,
    crossed_mean,
    pseudo_values,
    resample_weights,
)
from wamlab.statistics.paired import PairedTest, bonferroni, cohens_d, compare_pairs, holm, paired_test, ranking
from wamlab.statistics.tables import by_scene, interval_table
from wamlab.statistics.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, finding, verdict

__all__ = [
    "CROSSED", "INCONCLUSIVE", "METHODS", "NOT_REPRODUCED", "REPRODUCED", "Interval", "PairedTest", "Undefined", "bonferroni",
    "bootstrap_mean", "bootstrap_ratio", "by_scene", "cohens_d", "compare_pairs", "crossed_mean", "finding", "holm", "interval_table",
    "paired_test", "pseudo_values", "ranking", "resample_weights", "verdict",
]  # fmt: skip
