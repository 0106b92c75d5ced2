"""Dense readout: which class is at each pixel, told by the nearest labelled patch features, with nothing trained. Functions of tensors.

The rules are those of Humming-Bird (Balazevic et al. 2023) as VaViM's evaluation has them: some patches of each labelled image, drawn
so that rare classes are seen; unit-length features; the k nearest by dot product; their labels mixed by a softmax of temperature beta;
bilinear upsampling; mean IoU over the classes that occur. Unlike that evaluation, which counts unlabelled pixels of the labelled
images as class 0, pixels of `IGNORE` are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.statistics import Interval, resample_weights

#: The label of a pixel that has none.
IGNORE = 255
#: Numbers in the largest block that is held at a time (64 MiB as float32).
BLOCK = 2**24


@dataclass(frozen=True)
class Memory:
    """Labelled patches: keys (M, d) of unit length, labels (M, C) with the share of each class in the patch."""

    keys: Tensor
    labels: Tensor


def nearest(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k keys (M, d) with the largest dot product with each query (Q, d): products (Q, k), largest first, and indices (Q, k).

    Exact, a block of queries at a time. Raises `InvalidParameter` if there are fewer than k keys.
    """
    if not 1 <= k <= len(keys):
        raise InvalidParameter(f"k must be 1 to {len(keys)}, the number of keys, not {k}")
    blocks = queries.split(max(1, BLOCK // len(keys)))
    products, indices = zip(*((block @ keys.T).topk(k, dim=1) for block in blocks), strict=True)
    return torch.cat(products), torch.cat(indices)


def unit_length(features: Tensor) -> Tensor:
    """Features (…, d) divided by their norms. Raises `InvalidShape` for one that is zero or not finite: it has no direction."""
    norms = features.float().norm(dim=-1, keepdim=True)
    bad = int((~(norms > 0) | ~norms.isfinite()).sum())
    if bad:
        raise InvalidShape(f"{bad} of {norms.numel()} features are zero or not finite, so they point nowhere")
    return features.float() / norms


def patch_labels(labels: Tensor, grid: tuple[int, int], num_classes: int) -> Tensor:
    """(N, H, W) labels -> (N, h, w, C): the share of each class among the labelled pixels of each patch of an h × w grid.

    All zeros where a patch has no labelled pixel. Raises `InvalidShape` for other shapes and for a label that is no class and not `IGNORE`.
    """
    _check_labels(labels, num_classes)
    (n, height, width), (h, w) = labels.shape, grid
    if h > height or w > width:
        raise InvalidShape(f"labels of {height} × {width} pixels cannot fill a grid of {h} × {w} patches")
    rows, columns = (
        torch.arange(size, device=labels.device) * cells // size for size, cells in ((height, h), (width, w))
    )
    cell = (torch.arange(n, device=labels.device)[:, None, None] * h + rows[:, None]) * w + columns  # (N, H, W)
    known = labels != IGNORE
    counts = torch.bincount(cell[known] * num_classes + labels[known].long(), minlength=n * h * w * num_classes)
    counts = counts.reshape(n, h, w, num_classes).float()
    return counts / counts.sum(-1, keepdim=True).clamp_min(1)


def build_memory(
    features: Tensor, labels: Tensor, num_classes: int, generator: torch.Generator, per_image: int | None = 10
) -> Memory:
    """Labelled patches from features (N, h, w, d) and label maps (N, H, W): `per_image` of each image, or all.

    A patch's score is a uniform number times the sum, over the classes in it, of how many patches of the image have that class; the
    lowest scores are taken, so that patches with rare classes are seen more often. Patches without a labelled pixel never are.

    Raises `InvalidShape` for shapes that do not fit and when no patch is labelled.
    """
    if features.ndim != 4 or len(features) != len(labels):
        raise InvalidShape(
            f"features must be (N, h, w, d) for labels (N, H, W), not {_shape(features)} for {_shape(labels)}"
        )
    shares = patch_labels(labels, tuple(features.shape[1:3]), num_classes).flatten(1, 2)  # (N, h * w, C)
    present = (shares > 0).float()
    frequency = present.sum(1, keepdim=True)  # (N, 1, C)
    labelled = present.any(-1)  # (N, h * w)
    uniform = torch.rand(labelled.shape, generator=generator, device=generator.device).to(labels.device)
    scores = torch.where(labelled, (present * frequency).sum(-1) * uniform, torch.inf)
    kept = min(per_image or scores.shape[1], scores.shape[1])
    taken = scores.topk(kept, dim=1, largest=False).indices.sort(1).values  # (N, kept)
    image = torch.arange(len(taken), device=taken.device)[:, None].expand_as(taken)
    image, taken = (index[labelled.gather(1, taken)] for index in (image, taken))
    if not len(taken):
        raise InvalidShape(f"no pixel of {len(labels)} label maps is labelled: all are {IGNORE}")
    return Memory(
        unit_length(features.flatten(1, 2)[image.to(features.device), taken.to(features.device)]), shares[image, taken]
    )


def class_shares(memory: Memory, features: Tensor, k: int = 30, beta: float = 0.02) -> Tensor:
    """Features (N, h, w, d) -> (N, h, w, C): the labels of the k nearest patches, mixed by softmax(dot product / beta)."""
    products, indices = nearest(unit_length(features.flatten(0, 2)), memory.keys, k)
    weights = (products / beta).softmax(dim=1)
    size = max(1, BLOCK // (k * memory.labels.shape[1]))
    mixed = [
        torch.einsum("qk,qkc->qc", w, memory.labels[i])
        for w, i in zip(weights.split(size), indices.split(size), strict=True)
    ]
    return torch.cat(mixed).reshape(*features.shape[:3], -1)


def read_out(memory: Memory, features: Tensor, size: tuple[int, int], k: int = 30, beta: float = 0.02) -> Tensor:
    """Features (N, h, w, d) -> (N, H, W) uint8 classes at `size`, a few images at a time; see `class_shares`."""
    num_classes = memory.labels.shape[1]
    parts = []
    for part in features.split(max(1, BLOCK // (num_classes * size[0] * size[1]))):
        shares = class_shares(memory, part, k, beta).permute(0, 3, 1, 2)
        parts.append(F.interpolate(shares, size, mode="bilinear").argmax(1).to(torch.uint8))
    return torch.cat(parts)


def confusion(preds: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """(N, C, C) pixel counts of (N, H, W) class maps: rows are true classes, columns predicted ones; `IGNORE` in the truth is left out."""
    if preds.shape != target.shape:
        raise InvalidShape(f"preds and target must be of one shape (N, H, W), not {_shape(preds)} and {_shape(target)}")
    _check_labels(target, num_classes)
    if preds.numel() and int(preds.max()) >= num_classes:
        raise InvalidShape(f"a predicted class is {int(preds.max())}; known: 0 to {num_classes - 1}")
    image = torch.arange(len(target), device=target.device)[:, None, None]
    pair = (image * num_classes + target.long()) * num_classes + preds.long()
    counts = torch.bincount(pair[target != IGNORE], minlength=len(target) * num_classes**2)
    return counts.reshape(len(target), num_classes, num_classes)


def iou(counts: Tensor) -> Tensor:
    """(…, C, C) confusion -> (…, C) intersection over union of each class; NaN for one that is neither true nor predicted anywhere."""
    counts = counts.double()
    both = counts.diagonal(dim1=-2, dim2=-1)
    return both / (counts.sum(-1) + counts.sum(-2) - both)


def mean_iou(counts: Tensor) -> Tensor:
    """(…, C, C) confusion -> (…): the mean IoU over the classes that occur. Higher is better.

    >>> mean_iou(torch.tensor([[2, 2, 0], [0, 4, 0], [0, 0, 0]])).round(decimals=4)  # class 2 does not occur
    tensor(0.5833, dtype=torch.float64)
    """
    return iou(counts).nanmean(-1)


def mean_iou_interval(
    counts: Tensor, scenes: Sequence[str], rng: np.random.Generator, num_resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Mean IoU of all images (N, C, C) together, and its percentile interval when scenes are drawn with replacement.

    The images of a scene are drawn together. Raises `InvalidShape` if there is not a scene for every image, or there is none.
    """
    if len(scenes) != len(counts) or not len(counts):
        raise InvalidShape(f"{len(counts)} images need as many names of scenes, at least one, not {len(scenes)}")
    names, of_image = np.unique(np.asarray(scenes), return_inverse=True)
    by_scene = counts.new_zeros((len(names), *counts.shape[1:])).index_add_(
        0, torch.from_numpy(of_image).to(counts.device), counts
    )
    weights = torch.from_numpy(resample_weights(len(names), rng, num_resamples)).to(counts.device)
    drawn = mean_iou(torch.tensordot(weights, by_scene.double(), dims=1)).cpu().numpy()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean_iou(by_scene.sum(0))), float(low), float(high), len(names))


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.ndim != 3 or labels.is_floating_point():
        raise InvalidShape(f"label maps must be (N, H, W) integers, not {_shape(labels)} {labels.dtype}")
    wrong = (labels != IGNORE) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        raise InvalidShape(f"a label is {int(labels[wrong][0])}; known: 0 to {num_classes - 1}, and {IGNORE} for none")


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
