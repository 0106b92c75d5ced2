"""The one training loop, its checkpoints, and what trains a named model on a named dataset."""

from wamlab.training.loop import BatchOrder, TrainConfig, fit, generator_for

__all__ = ["BatchOrder", "TrainConfig", "fit", "generator_for"]
