"""What all encoders share: checking frames, one frozen pass in batches, 384 numbers out. No backbone and no weights live here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wamlab.config import digest
from wamlab.encoders.preprocess import Preprocess
from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.weights import weights_digest

#: Width of every embedding, whatever the backbone's own.
EMBEDDING = 384
#: Part of every digest: raise it when the same weights give other embeddings.
FORMAT = 1
PRECISIONS = ("float32", "bfloat16", "float16")
MIN_SIDE = 16
PROJECTION_SEED = 384


class FrozenEncoder(nn.Module, ABC):
    """A frozen backbone whose output is pooled and projected to (B, 384); the width that DiT-WAM probes.

    Where the backbone's width D is not 384, a random orthogonal matrix with a fixed seed maps it there. It has nothing to learn: for
    D < 384 it keeps all distances, for D > 384 it is the orthogonal projection on a random subspace.

    Attributes:
        name: as in `wamlab.encoders.ENCODERS`, with `/embedded` or `/random` where it applies.
        digest: identifies the weights and whatever else decides the embeddings.
        num_frames: 1, or how many frames a clip has, the present one last.
        frames_at_once: frames in one pass, which bounds the memory.
    """

    #: `model_type` (transformers) or `_class_name` (diffusers) of the configurations that this family reads.
    config_types: ClassVar[tuple[str, ...]]
    num_frames: ClassVar[int] = 1

    def __init__(self, backbone: nn.Module, preprocess: Preprocess, name: str, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise InvalidParameter(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.backbone, self.preprocess, self.name, self.precision = backbone, preprocess, name, precision
        self.frames_at_once = 128
        self.register_buffer("projection", orthogonal(self.width, EMBEDDING), persistent=False)
        self.digest = digest(
            FORMAT, type(self).__name__, weights_digest(backbone), preprocess, precision, PROJECTION_SEED, length=64
        )
        self.requires_grad_(False).eval()

    @classmethod
    @abstractmethod
    def read(cls, source: str | Path, name: str) -> tuple[nn.Module, Preprocess]:
        """The backbone and its processor's numbers from a folder in the real layout or a name on the hub.

        Raises `WeightsMissing` and `CheckpointMismatch`.
        """

    @classmethod
    @abstractmethod
    def small(cls) -> tuple[nn.Module, Preprocess]:
        """A small backbone of the same class with random weights, from torch's global generator."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D, of the pooled output."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w) of the patches: time, down, right."""

    @property
    @abstractmethod
    def last_block(self) -> nn.Module:
        """The last part that mixes patches, whose input `activations` reads."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, S, S) normalised -> pooled (B, D) and patches (B, t h w, d)."""

    @property
    def resolution(self) -> int:
        """Pixels: the size of square frames that need no resizing here."""
        return self.preprocess.resize

    def visible(self, maps: Tensor) -> Tensor:
        """(..., H, W) of whole frames -> the part that `features` covers (some processors cut the border off)."""
        return self.preprocess.visible(maps)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W), or clips (B, T, 3, H, W) if `num_frames` > 1, uint8 -> (B, 384) float32 on the encoder's device.

        Frames of any size from 16 pixels on are resized. The paper is silent on clips shorter than `num_frames`: their first frame is
        repeated, so that the last one stays the present. Raises `InvalidShape`.
        """
        return torch.cat([self._run(part)[0] for part in self._batches(frames)])

    @torch.no_grad()
    def features(self, frames: Tensor) -> Tensor:
        """As `encode` -> (B, h, w, d) float32, one vector a patch; of a clip, those of its last patches in time, the present."""
        maps = (self._run(part)[1][:, -1] for part in self._batches(frames))
        return torch.cat(list(maps))

    def activations(self, frames: Tensor, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """What goes into the last block, and the gradient of a score with respect to it: the two factors of gradient × activation.

        It is the last block's input and not its output because a class token reads the patches there for the last time: what comes out at
        the patches no longer matters to it. Always in float32.

        Args:
            frames: as in `encode`.
            score: embeddings (B, 384) -> (B,).

        Returns:
            Both (B, t, h, w, d); t is 1 for frames, and for clips the number of patches in time.
        """
        pairs = [self._activations(part, score) for part in self._batches(frames)]
        return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))

    def _activations(self, part: Tensor, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf: list[Tensor] = []

        def cut(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            leaf.append(inputs[0].detach().requires_grad_())
            return leaf[0], *inputs[1:]

        with torch.enable_grad(), self.last_block.register_forward_pre_hook(cut):
            embeddings, _ = self._run(part, "float32")
            (gradient,) = torch.autograd.grad(score(embeddings).sum(), leaf[0])
        return self._patches(leaf[0].detach()), self._patches(gradient)

    @abstractmethod
    def _patches(self, hidden: Tensor) -> Tensor:
        """What goes into the last block -> (B, t, h, w, d)."""

    def _run(self, part: Tensor, precision: str | None = None) -> tuple[Tensor, Tensor]:
        """(b, T, 3, H, W) uint8 -> embeddings (b, 384) and patches (b, t, h, w, d)."""
        dtype = getattr(torch, precision or self.precision)
        pixels = self.preprocess(part)
        with torch.autocast(part.device.type, dtype, enabled=dtype != torch.float32):
            pooled, patches = self(pixels)
        pooled = pooled.float()
        return pooled if self.width == EMBEDDING else pooled @ self.projection, patches.float().unflatten(1, self.grid)

    def _batches(self, frames: Tensor) -> list[Tensor]:
        """Checked, with a time axis of `num_frames`, on the encoder's device, in parts of bounded size."""
        wanted = "(B, 3, H, W)" if self.num_frames == 1 else f"(B, T, 3, H, W) with 1 <= T <= {self.num_frames}"
        clips = frames[:, None] if self.num_frames == 1 else frames
        fits = clips.ndim == 5 and len(clips) and 1 <= clips.shape[1] <= self.num_frames and clips.shape[2] == 3
        if not fits or frames.dtype != torch.uint8:
            raise InvalidShape(f"{self.name} reads {wanted} uint8, not {tuple(frames.shape)} {frames.dtype}")
        if min(clips.shape[-2:]) < MIN_SIDE:
            raise InvalidShape(f"frames must have at least {MIN_SIDE} pixels a side, not {tuple(clips.shape[-2:])}")
        missing = self.num_frames - clips.shape[1]
        if missing:
            clips = torch.cat([clips[:, :1].expand(-1, missing, -1, -1, -1), clips], dim=1)
        parts = clips.split(max(1, self.frames_at_once // self.num_frames))
        return [part.to(self.projection.device) for part in parts]


class TransformerEncoder(FrozenEncoder):
    """A backbone of transformers: a list of blocks over the tokens of square patches, with `num_prefix` tokens (the class) before them."""

    num_prefix: ClassVar[int] = 1

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

    @property
    def grid(self) -> tuple[int, int, int]:
        side = self.preprocess.crop // self.backbone.config.patch_size
        return 1, side, side

    @property
    def last_block(self) -> nn.Module:
        # releases of transformers give the list of blocks different names, but it is the longest one
        return max((m for m in self.backbone.modules() if isinstance(m, nn.ModuleList)), key=len)[-1]

    def _patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, self.num_prefix :].unflatten(1, self.grid)


def orthogonal(rows: int, columns: int) -> Tensor:
    """(rows, columns) float32, a random matrix whose shorter side is orthonormal, the same every time; uniform over all such matrices."""
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # makes the decomposition unique, and q uniform
    return (q if rows >= columns else q.T).float().contiguous()
