"""Frames to the features that a distribution distance compares: what extracts them, and what is kept of them, however many they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wamlab.encoders import FrozenEncoder, load_encoder
from wamlab.errors import ExtraMissing, InvalidParameter, InvalidShape, WeightsMissing
from wamlab.weights import weights_digest

BATCH = 64
#: Of which scene a frame is, and which of its frames.
Sample = tuple[str, int]


@dataclass(frozen=True)
class Extractor:
    """A frozen network that turns frames into features.

    Attributes:
        name: as `load_encoder` takes it, or `inception-v3`.
        digest: of its weights and whatever else decides the features.
        normalisation: what is done to the pixels, in words.
        encode: (N, 3, H, W) uint8 -> (N, d).
        inception: it is Inception-v3's pooled layer of 2048, so that its distances are FID and KID.
    """

    name: str
    digest: str
    normalisation: str
    encode: Callable[[Tensor], Tensor]
    inception: bool = False

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 frames -> (..., d) float32 on the CPU, `BATCH` at a time. Raises `InvalidShape`."""
        if frames.ndim < 4 or frames.shape[-3] != 3 or frames.dtype != torch.uint8 or not frames.numel():
            raise InvalidShape(f"frames must be (..., 3, H, W) uint8, not {tuple(frames.shape)} {frames.dtype}")
        found = torch.cat([self.encode(part).float().cpu() for part in frames.flatten(0, -4).split(BATCH)])
        return found.unflatten(0, frames.shape[:-3])

    def label(self, kind: str) -> str:
        """`kind` is F (Fréchet) or K (kernel): `FID` and `KID` with Inception-v3 alone, else `FD[name]` and `KD[name]`."""
        return f"{kind}ID" if self.inception else f"{kind}D[{self.name}]"


def encoder_features(encoder: FrozenEncoder | str | Path, device: torch.device | str = "cpu") -> Extractor:
    """The (N, 384) embeddings of an encoder of frames, given as such or as `load_encoder` takes it.

    Raises `InvalidShape` for an encoder of clips, and as `load_encoder`.
    """
    encoder = encoder if isinstance(encoder, FrozenEncoder) else load_encoder(encoder, device)
    if encoder.num_frames > 1:
        raise InvalidShape(f"{encoder.name} reads clips of {encoder.num_frames} frames; take an encoder of frames")
    p = encoder.preprocess
    values = (", ".join(f"{v:.4g}" for v in channel) for channel in (p.mean, p.std))
    pixels = f"{p.resample} to {p.resize}, middle {p.crop}, mean {next(values)}, std {next(values)}"
    return Extractor(encoder.name, encoder.digest, pixels, encoder.encode)


def inception_features(device: torch.device | str = "cpu") -> Extractor:
    """The 2048 pooled features of Inception-v3 (Szegedy et al. 2016) as converted by torch-fidelity, through torchmetrics.

    torch-fidelity downloads its weights when they are first asked for. Raises `ExtraMissing` without `wamlab[fid]`, `WeightsMissing`
    where the weights are neither in torch's cache nor within reach.
    """
    instead = "FD[dinov2-s14/embedded] needs neither: encoder_features('dinov2-s14/embedded')"
    try:
        import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import NoTrainInceptionV3
    except (ImportError, RuntimeError) as error:
        raise ExtraMissing(
            f"FID and KID need Inception-v3 of torch-fidelity, which cannot be imported ({error}): "
            f"install it with `pip install 'wamlab[fid]'`. {instead}"
        ) from error
    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"])
    except OSError as error:  # the download
        raise WeightsMissing(
            f"the weights of Inception-v3 are not in {torch.hub.get_dir()} and could not be downloaded ({error}): "
            f"run it once where there is a network, and copy that folder. {instead}"
        ) from error
    network = network.to(device).requires_grad_(False)
    pixels = "antialiased bilinear to 299, (x - 128) / 128"
    return Extractor(
        "inception-v3", weights_digest(network), pixels, lambda frames: network(frames.to(device)), inception=True
    )


@dataclass(frozen=True)
class SampleList:
    """Which frames a number was computed on: scene -> how many of its frames, and a digest of the list, whatever its order."""

    scenes: Mapping[str, int]
    digest: str

    def __len__(self) -> int:
        return sum(self.scenes.values())

    def __str__(self) -> str:
        return f"{len(self)} frames of {len(self.scenes)} scenes (list {self.digest})"


class FeatureStream:
    """What the distances need of one set of frames, whatever their number: moments of all features, and `capacity` of them as they are.

    Kept are the frames whose (scene, number) have the lowest hashes: a random sample that depends neither on the batches nor on their
    order, and is of the same frames in a set of predictions and in its truth. Up to `capacity` frames, it is all of them.
    """

    def __init__(self, extractor: Extractor, capacity: int = 2048) -> None:
        if capacity < 2:
            raise InvalidParameter(f"capacity must be at least 2 frames, not {capacity}")
        self.extractor, self.capacity = extractor, capacity
        self._scenes: Counter[str] = Counter()
        self._digest = 0
        self._kept: list[tuple[int, str]] = []  # hash and scene of each row
        self._rows: Tensor | None = None  # (K, d) float64
        self._sum = self._outer = self._low = self._high = None  # (d,), (d, d), (d,), (d,)

    def __len__(self) -> int:
        return self._scenes.total()

    def update(self, frames: Tensor, samples: Sequence[Sample]) -> FeatureStream:
        """Take in (N, 3, H, W) uint8 frames. Returns itself. Raises `InvalidShape`."""
        return self.add(self.extractor(frames), samples)

    def add(self, features: Tensor, samples: Sequence[Sample]) -> FeatureStream:
        """Take in features (N, d) that the extractor has made of `samples`. Returns itself.

        Raises `InvalidShape` unless there is a sample for each, all are finite, and d is that of those before.
        """
        x = features.detach().double().cpu()
        if x.ndim != 2 or len(x) != len(samples) or (self._sum is not None and x.shape[1] != len(self._sum)):
            wanted = "d" if self._sum is None else len(self._sum)
            raise InvalidShape(
                f"features must be (N, {wanted}) with a sample for each, not {tuple(x.shape)} for {len(samples)} samples"
            )
        if not x.isfinite().all():
            raise InvalidShape(f"{int((~x.isfinite()).any(1).sum())} of {len(x)} features are NaN or infinite")
        if not len(x):
            return self
        if self._sum is None:
            d = x.shape[1]
            self._sum, self._outer, self._rows = x.new_zeros(d), x.new_zeros(d, d), x[:0]
            self._low, self._high = x[0].clone(), x[0].clone()
        self._sum += x.sum(0)
        self._outer += x.T @ x
        self._low, self._high = torch.minimum(self._low, x.amin(0)), torch.maximum(self._high, x.amax(0))
        hashes = [sample_hash(sample) for sample in samples]
        self._scenes.update(scene for scene, _ in samples)
        self._digest = (self._digest + sum(hashes)) % 2**64
        kept = [*self._kept, *((h, scene) for h, (scene, _) in zip(hashes, samples, strict=True))]
        chosen = sorted(range(len(kept)), key=kept.__getitem__)[: self.capacity]
        self._rows = torch.cat([self._rows, x])[chosen]
        self._kept = [kept[i] for i in chosen]
        return self

    @property
    def samples(self) -> SampleList:
        return SampleList(dict(sorted(self._scenes.items())), f"{self._digest:016x}")

    @property
    def constant(self) -> int:
        """How many features are the same number in all frames."""
        return 0 if self._sum is None else int((self._low == self._high).sum())

    @property
    def kept(self) -> tuple[Tensor, np.ndarray]:
        """Features (K, d) of the frames that are kept, and their scenes (K,)."""
        return self._rows, np.array([scene for _, scene in self._kept])

    @property
    def mean(self) -> Tensor:
        """(d,) over all frames."""
        return self._sum / len(self)

    def factor(self) -> Tensor:
        """R (r, d) with RᵀR the covariance (divisor N - 1) of all frames."""
        if len(self) == len(self._rows):
            return factor(self._rows)
        return _root((self._outer - len(self) * torch.outer(self.mean, self.mean)) / (len(self) - 1))


def factor(rows: Tensor) -> Tensor:
    """(min(n, d), d): R with RᵀR the covariance of (n, d) rows."""
    centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
    return centred if len(rows) <= rows.shape[1] else torch.linalg.qr(centred, mode="r").R


def _root(covariance: Tensor) -> Tensor:
    """(r, d): R with RᵀR = a covariance (d, d) of rank r; eigenvalues within rounding of 0 are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    there = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return (vectors[:, there] * values[there].sqrt()).T


def sample_hash(sample: Sample) -> int:
    return int.from_bytes(hashlib.blake2b(f"{sample[0]}\n{sample[1]}".encode(), digest_size=8).digest())
