"""Fixtures that several folders of tests use: a small dataset, a project of its own, a browser that can reach nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from helpers import WORLD_SECONDS, launched, make_dataset
from hypothesis import settings

from wamlab.data import Dataset, open_dataset

matplotlib.use("Agg")
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def index_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Opening a dataset leaves its index in the data folder: not in the project's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAMLAB_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short drives, one a split; shared, so not to be written to."""
    return make_dataset(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def dataset(dataset_root: Path) -> Dataset:
    return open_dataset(dataset_root)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The procedural world as a dataset: ten short drives, made by two processes. Its tests share one worker (group "world")."""
    from wamlab.world import synthesize

    root = tmp_path_factory.mktemp("world") / "synthetic"
    return synthesize(root, 10, workers=2, duration_s=WORLD_SECONDS, progress=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the working directory: everything wamlab writes lands in it."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("WAMLAB_DATA", "WAMLAB_RUNS", "WAMLAB_REPORTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    yield from launched()


class Visit:
    """An open page with what it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.console: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", lambda m: self.console.append(m.text))
        page.on("pageerror", lambda e: self.console.append(str(e)))

    @property
    def left_the_page(self) -> list[str]:
        return [url for url in self.requests[1:] if not url.startswith(("data:", "blob:"))]

    def pixels(self, selector: str) -> str:
        return self.page.eval_on_selector(selector, "canvas => canvas.toDataURL()")

    def wait_for_other_pixels(self, selector: str, before: str) -> None:
        """Wait until a canvas no longer shows `before`."""
        self.page.wait_for_function(
            "([selector, before]) => document.querySelector(selector).toDataURL() !== before", arg=[selector, before]
        )


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """`visit(path, width=…, color_scheme=…)` opens a file with the network cut."""
    contexts = []

    def open_page(path: Path, width: int = 1200, **options: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        visited = Visit(context.new_page())
        visited.page.goto(path.resolve().as_uri())
        return visited

    yield open_page
    for context in contexts:
        context.close()
