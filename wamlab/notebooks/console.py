"""What the runner says on the terminal: where each notebook is, and how it ended."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

from wamlab.notebooks.execute import Outcome

#: To the start of the line, and empty it.
_CLEAR = "\r\x1b[2K"


class Console:
    """`05_video_rollouts  7/12  Roll out every model`: one line rewritten on a terminal, one line a cell elsewhere."""

    def __init__(self) -> None:
        self._at: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live = sys.stdout.isatty()

    def progress(self, label: str, cell: int, cells: int, doing: str) -> None:
        with self._lock:
            self._at[label] = f"{label}  {cell}/{cells}  {doing}"
            if self._live:
                self._show()
            else:
                print(self._at[label], flush=True)

    def complain(self, text: str) -> None:
        with self._lock:
            print(f"{_CLEAR * self._live}wamlab: {text}", file=sys.stderr, flush=True)

    def ended(self, outcome: Outcome, page: Path | None) -> None:
        label, where = outcome.job.label, f"  {short(page)}" if page else ""
        with self._lock:
            self._at.pop(label, None)
            clear = _CLEAR * self._live
            if outcome.reused:
                print(f"{clear}{label}  unchanged, reusing the run of {outcome.run.about.get('time', '?')}{where}")
            elif outcome.ok:
                print(f"{clear}{label}  done in {outcome.seconds:.0f} s{where}")
            else:
                print(f"{clear}wamlab: {label} {outcome.status}: {outcome.message}", file=sys.stderr)
                print(f"{label}  {outcome.status}{where}")
            if self._live:
                self._show()
            sys.stdout.flush()

    def _show(self) -> None:
        """All that run, in one line that fits the terminal."""
        width = (shutil.get_terminal_size().columns - 1) // max(1, len(self._at))
        print(_CLEAR + "".join(line[: width - 2].ljust(width) for line in self._at.values()), end="", flush=True)


def short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
