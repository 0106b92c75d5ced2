"""Writing a file so that a reader never sees half of it, and a full disk costs nothing that was there."""

from __future__ import annotations

import os
from pathlib import Path

from wamlab.errors import WriteFailed


def write_file(path: Path, content: str | bytes) -> Path:
    """Write aside and rename; text is UTF-8. Raises `WriteFailed`, after which the old file is as it was and nothing is left over."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        return aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise WriteFailed(
            f"{path.name} could not be written ({error.strerror}); make room and run the same again"
        ) from error
