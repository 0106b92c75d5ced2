"""Readers that turn datasets on disk into `Scene` and `Window`, and the latent store. No models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from wamlab.config import data_dir
from wamlab.data.comma2k19 import Comma2k19Dataset, find_segments
from wamlab.data.dataset import Dataset
from wamlab.data.nuscenes import HOW_TO_GET, SYNTHETIC, VERSIONS, NuScenesDataset
from wamlab.errors import DatasetMissing, InvalidParameter, UnknownName

__all__ = ["DATASETS", "Dataset", "NuScenesDataset", "open_dataset"]

#: Dataset name -> (folder under `wamlab.config.data_dir()`, what opens it, given the name and the folder).
DATASETS: dict[str, tuple[str, Callable[[str, Path], Dataset]]] = {
    "synthetic": ("synthetic", partial(NuScenesDataset, version=SYNTHETIC)),
    "nuscenes-mini": ("nuscenes", partial(NuScenesDataset, version="v1.0-mini")),
    "nuscenes": ("nuscenes", partial(NuScenesDataset, version="v1.0-trainval")),
    "comma2k19": ("comma2k19", Comma2k19Dataset),
}


def open_dataset(name_or_path: str | Path, root: Path | str | None = None) -> Dataset:
    """Open a dataset by its name in `DATASETS` (under `root`, by default its folder in `data_dir()`) or by the path of its folder.

    What is in the folder says which dataset it is. A path may also name the version's folder of nuScenes, as in
    `/somewhere/nuscenes/v1.0-mini`.

    Raises:
        UnknownName: neither a name nor a path.
        DatasetMissing: nothing of the dataset is there.
        DatasetIncomplete: a table is missing, or its generation was interrupted.
        CanBusMissing: the CAN-bus expansion is not there.
        InvalidParameter: a path with several versions in it.
    """
    if name_or_path in DATASETS:
        folder, opener = DATASETS[str(name_or_path)]
        return opener(str(name_or_path), Path(root) if root is not None else data_dir() / folder)

    path = Path(name_or_path).expanduser()
    if not path.exists():
        if isinstance(name_or_path, str) and "/" not in name_or_path:
            raise UnknownName("dataset", name_or_path, [*DATASETS, "the path of a folder"])
        raise DatasetMissing(f"no dataset at {path}: there is no such folder")
    if path.name in VERSIONS:
        return NuScenesDataset(VERSIONS[path.name], path.parent, path.name)
    found = [version for version in VERSIONS if (path / version).is_dir()]
    if len(found) > 1:
        raise InvalidParameter(f"{path} holds {' and '.join(found)}: name one of them, as in {path / found[0]}")
    if found:
        return NuScenesDataset(VERSIONS[found[0]], path, found[0])
    if (path / ".parts").is_dir():
        return NuScenesDataset(VERSIONS[SYNTHETIC], path, SYNTHETIC)
    if find_segments(path):
        return Comma2k19Dataset("comma2k19", path)
    raise DatasetMissing(
        f"no dataset at {path}: neither a folder {', '.join(VERSIONS)} in it nor comma2k19's Chunk_N/drive/segment; "
        f"{HOW_TO_GET[SYNTHETIC]}"
    )
