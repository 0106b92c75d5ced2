"""The one training loop, its checkpoints, and what trains a named model on a named dataset."""

from wamlab.training.command import TRAINABLE, outcome, train
from wamlab.training.fitting import fit_or_load, is_main, run_folder
from wamlab.training.log import read_log
from wamlab.training.loop import TrainConfig, fit
from wamlab.training.order import BatchOrder
from wamlab.training.randomness import generator_for

__all__ = [
    "TRAINABLE",
    "BatchOrder",
    "TrainConfig",
    "fit",
    "fit_or_load",
    "generator_for",
    "is_main",
    "outcome",
    "read_log",
    "run_folder",
    "train",
]
