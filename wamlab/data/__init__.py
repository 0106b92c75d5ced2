"""Readers that turn datasets on disk into `Scene` and `Window`, and the latent store. No models."""

from __future__ import annotations

from pathlib import Path

from wamlab.config import data_dir
from wamlab.data.dataset import Dataset
from wamlab.data.nuscenes import HOW_TO_GET, SYNTHETIC, VERSIONS, NuScenesDataset
from wamlab.errors import DatasetMissing, InvalidParameter, UnknownName

__all__ = ["DATASETS", "Dataset", "open_dataset"]

#: Dataset name -> (folder under `wamlab.config.data_dir()`, version of the tables in it).
DATASETS = {
    "synthetic": ("synthetic", SYNTHETIC),
    "nuscenes-mini": ("nuscenes", "v1.0-mini"),
    "nuscenes": ("nuscenes", "v1.0-trainval"),
}


def open_dataset(name_or_path: str | Path, root: Path | str | None = None) -> Dataset:
    """Open a dataset by its name in `DATASETS` (under `root`, by default its folder in `data_dir()`) or by the path of its folder.

    A path may also name the version's folder in it, as in `/somewhere/nuscenes/v1.0-mini`.

    Raises:
        UnknownName: neither a name nor a path.
        DatasetMissing: nothing of the dataset is there.
        DatasetIncomplete: a table is missing, or its generation was interrupted.
        CanBusMissing: the CAN-bus expansion is not there.
        InvalidParameter: a path with several versions in it.
    """
    if name_or_path in DATASETS:
        folder, version = DATASETS[str(name_or_path)]
        return NuScenesDataset(str(name_or_path), Path(root) if root is not None else data_dir() / folder, version)

    path = Path(name_or_path).expanduser()
    if not path.exists():
        if isinstance(name_or_path, str) and "/" not in name_or_path:
            raise UnknownName("dataset", name_or_path, [*DATASETS, "the path of a folder"])
        raise DatasetMissing(f"no dataset at {path}: there is no such folder")
    names = {version: name for name, (_, version) in DATASETS.items()}
    if path.name in VERSIONS:
        return NuScenesDataset(names[path.name], path.parent, path.name)
    found = [version for version in VERSIONS if (path / version).is_dir()]
    if len(found) > 1:
        raise InvalidParameter(f"{path} holds {' and '.join(found)}: name one of them, as in {path / found[0]}")
    if not found and not (path / ".parts").is_dir():
        raise DatasetMissing(f"no dataset at {path}: no folder {', '.join(VERSIONS)} in it; {HOW_TO_GET[SYNTHETIC]}")
    return NuScenesDataset(names[found[0] if found else SYNTHETIC], path, found[0] if found else SYNTHETIC)
