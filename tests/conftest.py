"""Fixtures that several folders of tests use."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from helpers import make_dataset
from hypothesis import settings

from wamlab.data import Dataset, open_dataset

matplotlib.use("Agg")
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short drives, one a split; shared, so not to be written to."""
    return make_dataset(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def dataset(dataset_root: Path) -> Dataset:
    return open_dataset(dataset_root)
