"""The latent store's twin for encoders: every frame of a scene, or the clip that ends with it, embedded once. The shards are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wamlab.data import Dataset
from wamlab.data.clips import film_of, load_clips
from wamlab.data.frames import load_frames
from wamlab.data.latents import LatentStore
from wamlab.errors import InvalidShape
from wamlab.types import Encoder, Scene


class EmbeddingStore(LatentStore):
    """The embeddings (T, 384) of a dataset's frames under one encoder, in files and with promises as in `LatentStore`.

    For encoders of clips the key has the clips' rate besides. It does not know which sweeps are on disk: where some were added later, give
    another `root`, or delete the folder.
    """

    noun = "embeddings"

    def __init__(
        self,
        dataset: Dataset,
        encoder: Encoder,
        resolution: int | None = None,
        root: Path | str | None = None,
        dtype: torch.dtype = torch.float32,
        rate_hz: float | None = None,
    ) -> None:
        """
        Args:
            resolution: of the frames as read; by default what the encoder wants, so that they are resized once.
            root: as for `LatentStore`, by default the same folder.
            rate_hz: frames a second in clips, by default as recorded (12 where there are sweeps, else 2).

        Raises `InvalidShape`.
        """
        self.rate_hz = rate_hz
        super().__init__(dataset, encoder, resolution or encoder.resolution, root, dtype)

    def _check(self) -> None:
        if self.resolution < 1:
            raise InvalidShape(f"resolution must be a number of pixels, not {self.resolution}")

    def _extra_key(self) -> tuple[Any, ...]:
        return ("clips", self.rate_hz) if self.codec.num_frames > 1 else ()

    def _encode_frames(self, scene: Scene, indices: Sequence[int]) -> Tensor:
        encoder = self.codec
        if encoder.num_frames == 1:
            return encoder.encode(load_frames(scene, indices, self.resolution))
        film = film_of(self.dataset, scene)
        return encoder.encode(load_clips(scene, film, indices, self.resolution, encoder.num_frames, self.rate_hz))
