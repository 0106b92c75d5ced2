"""Chromium: where it is, and pages printed to PDF with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from wamlab.errors import BrowserMissing, WriteFailed

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """The one that WAMLAB_CHROMIUM names, else an installed one."""
    return os.environ.get("WAMLAB_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def require_browser() -> str:
    """The path of Chromium. Raises `BrowserMissing`."""
    if not (found := find_browser()):
        raise BrowserMissing("a PDF needs Chromium: install Debian's `chromium`, or name one in WAMLAB_CHROMIUM")
    return found


def print_pdf(page: Path, timeout_s: float = 120) -> Path:
    """A page as a PDF beside it. Raises `BrowserMissing` and `WriteFailed`."""
    chromium = require_browser()
    target = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
        ]
        command = [
            chromium,
            *options,
            "--virtual-time-budget=10000",
            f"--print-to-pdf={target}",
            page.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WriteFailed(f"{target.name} could not be printed ({error})") from error
    if done.returncode or not target.is_file():
        raise WriteFailed(f"{target.name} could not be printed ({done.stderr.strip().splitlines()[-1:]})")
    return target
