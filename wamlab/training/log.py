"""`metrics.jsonl`, what a run tells while it trains: one JSON object a line, written as it happens, read as a table."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wamlab.errors import WriteFailed

if TYPE_CHECKING:
    import pandas as pd

FILE = "metrics.jsonl"


class Log:
    """Appends rows to the `metrics.jsonl` of a folder; those after step `start`, from which a run goes on, are dropped first.

    Raises `WriteFailed`.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / FILE
        aside = folder / f".{FILE}.{os.getpid()}"
        kept = [line for line in _complete_lines(self.path) if json.loads(line)["step"] <= start]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside.write_text("".join(kept))
            aside.replace(self.path)
            self.file = self.path.open("ab", buffering=0)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise self._failed(error) from error

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        line = (json.dumps({"step": step, "seconds": round(seconds, 2), **values}) + "\n").encode()
        try:
            if self.file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        self.file.close()

    def _failed(self, error: OSError) -> WriteFailed:
        return WriteFailed(f"{self.path} could not be written ({error}). Make room and run the same again: it resumes")


def read_log(folder: Path) -> pd.DataFrame:
    """A row for each line, also while the run goes on: step, seconds, loss, lr, grad_norm, val_loss and the model's own; NaN where a
    line has none. Empty where nothing has been written yet."""
    import pandas as pd

    rows = [json.loads(line) for line in _complete_lines(folder / FILE)]
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*dict.fromkeys(["step", "seconds", "loss", "val_loss", "lr", *table.columns])])


def _complete_lines(path: Path) -> list[str]:
    """All lines but one that is being written."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("}\n")]
