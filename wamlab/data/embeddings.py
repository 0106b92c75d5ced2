"""The latent store's twin for encoders: frames of a scene, or the clips that end with them, embedded once. The shards are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamlab.config import digest
from wamlab.data import Dataset
from wamlab.data.clips import film_of, filmed, load_clips
from wamlab.data.frames import load_frames
from wamlab.data.latents import LatentStore
from wamlab.data.lead import lead_boxes
from wamlab.data.perturb import LEAD_VEHICLE, PERTURBATIONS, occlude_boxes, perturb
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab.geometry import every_nth
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
        every: int = 1,
        run: int = 1,
        perturbation: str = "none",
        load: Callable[[Scene, Sequence[int], int], Tensor] = load_frames,
    ) -> None:
        """
        Args:
            resolution: of the frames as read; by default what the encoder wants, so that they are resized once.
            root: as for `LatentStore`, by default the same folder.
            rate_hz: frames a second in clips, by default as recorded (12 where there are sweeps, else 2).
            every, run: embed only the frames of `every_nth`, so that a scene has fewer embeddings than frames.
            perturbation: one of `PERTURBATIONS`, done to what the encoder sees (a scene's noise is the same each time), or `LEAD_VEHICLE`.
            load: how frames are read, e.g. `wamlab.data.frames.remembering()` where other stores read the same ones.

        Raises `InvalidShape`, `InvalidParameter` for `every` and `run`, `UnknownName` for the perturbation.
        """
        if not 1 <= run <= every:
            raise InvalidParameter(
                f"every must be at least 1, and run at least 1 and at most that, not {every} and {run}"
            )
        if perturbation not in (*PERTURBATIONS, LEAD_VEHICLE):
            raise UnknownName("perturbation", perturbation, (*PERTURBATIONS, LEAD_VEHICLE))
        self.rate_hz, self.every, self.run, self.perturbation = rate_hz, every, run, perturbation
        self._load_frames = load
        super().__init__(dataset, encoder, resolution or encoder.resolution, root, dtype)

    def _check(self) -> None:
        if self.resolution < 1:
            raise InvalidShape(f"resolution must be a number of pixels, not {self.resolution}")

    def _extra_key(self) -> tuple[Any, ...]:
        clips = ("clips", self.rate_hz) if self.codec.num_frames > 1 else ()
        changed = (self.every, self.run, self.perturbation) != (1, 1, "none")
        return (*clips, self.every, self.run, self.perturbation) if changed else clips

    def taken(self, scene: Scene) -> list[int]:
        """The frames of a scene that are embedded."""
        return every_nth(len(scene), self.every, self.run)

    def _indices(self, scene: Scene) -> Sequence[int]:
        return self.taken(scene)

    def inputs(self, scene: Scene, indices: Sequence[int]) -> Tensor:
        """What the encoder sees of some frames, whatever `every` is: (N, 3, R, R) or clips (N, T, 3, R, R), uint8."""
        if self.perturbation == LEAD_VEHICLE:
            return self._without_lead(scene, indices)
        if self.codec.num_frames == 1:
            frames = self._load_frames(scene, indices, self.resolution)
        else:
            film = film_of(self.dataset, scene)
            size = self.codec.num_frames
            frames = load_clips(scene, film, indices, self.resolution, size, self.rate_hz, self._load_frames)
        seed = int(digest(scene.name, list(indices), self.perturbation), 16) % 2**63
        return perturb(self.perturbation, frames, torch.Generator().manual_seed(seed))

    def _without_lead(self, scene: Scene, indices: Sequence[int]) -> Tensor:
        """As `inputs`, the vehicle ahead hidden in every frame."""
        film, size = film_of(self.dataset, scene), self.codec.num_frames
        shown = np.stack([film.clip(t, size, self.rate_hz) for t in indices])  # (N, T)
        needed, places = np.unique(shown, return_inverse=True)
        frames = self._load_frames(filmed(scene, film), needed.tolist(), self.resolution)
        hidden = occlude_boxes(frames, lead_boxes(self.dataset, scene, film, needed, self.resolution))
        clips = hidden[torch.from_numpy(places.reshape(shown.shape))]
        return clips if size > 1 else clips[:, 0]

    def _encode_frames(self, scene: Scene, indices: Sequence[int]) -> Tensor:
        return self.codec.encode(self.inputs(scene, indices))
