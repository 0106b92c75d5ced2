"""Which representation carries the actions: probes on frozen embeddings, and tables of their errors. Encoders live elsewhere."""

from __future__ import annotations

from functools import partial

from wamlab.probing.data import TARGETS, Labelled, Probe, collect
from wamlab.probing.mlp import BEHAVIOUR_CLONING, MlpConfig, fit_mlp
from wamlab.probing.simple import fit_knn, fit_last, fit_linear, fit_mean
from wamlab.probing.tables import BUCKETS, bucket_table, change_table, scene_rmse

__all__ = [
    "BASELINES", "BUCKETS", "PROBES", "TARGETS", "Labelled", "MlpConfig", "Probe", "bucket_table", "change_table", "collect",
    "fit_knn", "fit_last", "fit_linear", "fit_mean", "fit_mlp", "scene_rmse",
]  # fmt: skip

#: Name -> fit(train, validation) -> `Probe`. The first is the paper's.
PROBES = {
    "mlp": fit_mlp,
    "linear": fit_linear,
    "knn": fit_knn,
    "behaviour cloning": partial(fit_mlp, config=BEHAVIOUR_CLONING),
}
#: The same, for what does not look at the frame.
BASELINES = {"mean action": fit_mean, "last action": fit_last}
