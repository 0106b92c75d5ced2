"""A real JupyterLab with real kernels, for tests and benchmarks that look through a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from notebook_files import write

_PATIENCE_S = 120


class Lab:
    """A running JupyterLab. `open(*cells)` makes a notebook, opens it and runs its first cell; `run` runs another."""

    def __init__(self, url: str, root: Path, browser: Any) -> None:
        self.url, self.root, self.browser = url, root, browser
        self.pages: list[Any] = []

    def open(self, *cells: str) -> Any:
        path = write(self.root / f"live-{len(self.pages)}.ipynb", *cells, parameters=None)
        context = self.browser.new_context(viewport={"width": 1280, "height": 1400})
        page = context.new_page()
        self.pages.append(page)
        page.set_default_timeout(_PATIENCE_S * 1000)
        page.complaints = []
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.goto(f"{self.url}/doc/tree/{path.name}")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        self.run(page, 0)
        return page

    def run(self, page: Any, index: int) -> None:
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(index).click()
        page.keyboard.press("Control+Enter")

    def close(self) -> None:
        for page in self.pages:
            page.context.close()


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a JupyterLab on the notebooks of a folder, which keeps its settings, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        name: str(root / "home" / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    settings = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.open_browser": False, "ServerApp.root_dir": root,
        "ServerApp.allow_root": True, "IdentityProvider.token": "", "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items())]
    with (
        (root / "log").open("w") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=root) as server,
    ):
        url, started = f"http://127.0.0.1:{port}", time.monotonic()
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/api", timeout=1).read()
                break
            except OSError:
                if time.monotonic() - started > _PATIENCE_S:
                    server.kill()
                time.sleep(0.3)
        if server.poll() is not None:
            pytest.fail(f"JupyterLab did not start: {(root / 'log').read_text()[-2000:]}")
        yield url
        server.terminate()
