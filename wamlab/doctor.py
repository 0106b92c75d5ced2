"""`wamlab doctor`: what is here, and what each missing thing would enable."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from wamlab import provenance
from wamlab.config import data_dir, reports_dir, runs_dir
from wamlab.errors import WamlabError


class Check(NamedTuple):
    """One line: the thing, whether it is there, what was found, and what it would enable where it is not."""

    thing: str
    present: bool
    found: str
    enables: str = ""


def examine() -> Iterator[Check]:
    """Everything wamlab can use on this machine."""
    yield Check("python", True, platform.python_version())
    for package, version in provenance.versions().items():
        yield Check(package, version != "not installed", version, f"pip install {package}")
    git = provenance.git_state()
    commit = (git["commit"] or "not a git checkout")[:18] + ", with uncommitted changes" * bool(git["dirty"])
    yield Check("code", bool(git["commit"]), commit, "a git checkout lets a run say which code it ran")
    yield from _machine()
    for name, folder in (("data", data_dir()), ("runs", runs_dir()), ("reports", reports_dir())):
        yield Check(f"{name} folder", True, f"{folder}{'' if folder.exists() else ' (made when needed)'}")
    yield from _datasets()
    yield from _weights()
    yield from _extras()


def _machine() -> Iterator[Check]:
    import torch

    memory = provenance.memory_gib()
    yield Check("cores", True, str(provenance.cores()))
    yield Check("memory", memory is not None, f"{memory} GiB")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Check(
        "gpu", bool(gpus), ", ".join(gpus) or "none", "training and evaluating at the paper's scale (preset paper)"
    )


def _datasets() -> Iterator[Check]:
    from wamlab.data import DATASETS, open_dataset

    for name in DATASETS:
        try:
            fingerprint = open_dataset(name).fingerprint
            yield Check(f"dataset {name}", True, f"fingerprint {fingerprint[:12]}")
        except WamlabError as error:
            yield Check(f"dataset {name}", False, "not here", str(error))


def _weights() -> Iterator[Check]:
    for file, digest in provenance.weights().items():
        yield Check(f"weights {file}", True, digest)
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from wamlab.codecs.sd_vae import SD_VAE
    from wamlab.encoders import ENCODERS

    try:
        cached = {repo.repo_id for repo in scan_cache_dir().repos}
    except CacheNotFound:
        cached = set()
    for source in dict.fromkeys([SD_VAE, *(entry.source for entry in ENCODERS.values())]):
        names = [name for name, entry in ENCODERS.items() if entry.source == source] or [
            "the codec of the preset paper"
        ]
        found = "in the hub's cache" if source in cached else "not in the hub's cache"
        yield Check(
            f"weights {source}",
            source in cached,
            found,
            f"{', '.join(names)}; fetched on first use where there is a network",
        )


def _extras() -> Iterator[Check]:
    from wamlab.notebooks.browser import find_browser

    browser = find_browser()
    yield Check(
        "browser", bool(browser), browser or "none", "wamlab report --pdf, and the browser tests (Debian: chromium)"
    )
    for package, enables in (
        ("playwright", "the browser tests (pip install 'wamlab[dev]')"),
        ("jupyter-kernel-gateway", "this machine's kernels for others (pip install jupyter-kernel-gateway)"),
        ("pyarrow", "tables as Parquet beside the CSV (pip install 'wamlab[parquet]')"),
        ("ray", "wamlab sweep --engine ray, over the machines of a cluster (pip install 'wamlab[ray]')"),
        ("torch-fidelity", "FID and KID with Inception features (pip install 'wamlab[fid]')"),
    ):
        try:
            yield Check(package, True, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, False, "not installed", enables)


def describe() -> None:
    """Print every check, and what is missing would enable."""
    for check in examine():
        print(f"{'ok' if check.present else '--'}  {check.thing:34}  {check.found}", flush=True)
        if not check.present and check.enables:
            print(f"    {'':34}  → {check.enables}")
