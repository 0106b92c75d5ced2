"""Fixtures of the widgets' tests: a real JupyterLab with a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_lab import Lab, served


@pytest.fixture(scope="session")
def jupyter_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("lab")
    with served(root) as url:
        yield url, root


@pytest.fixture
def lab(jupyter_url: tuple[str, Path], browser: Any) -> Iterator[Lab]:
    lab = Lab(*jupyter_url, browser)
    yield lab
    lab.close()
