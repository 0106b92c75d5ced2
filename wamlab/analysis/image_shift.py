"""What motion alone tells: a probe that is given, in place of an embedding, only how far each frame of a clip is shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from wamlab.analysis.encoders import NO_ENCODER, SHIFT
from wamlab.config import digest
from wamlab.metrics.motion import displacement_px
from wamlab.probing import collect, fit_mlp, scene_rmse
from wamlab.types import Scene


class ImageShift:
    """Reads clips like an encoder (`wamlab.types.Encoder`, as far as `EmbeddingStore` needs it) and has no network.

    If its probe tells the steering and an encoder's does not, the clips hold it and the encoder's embedding has lost it.
    """

    name = SHIFT
    digest = digest("displacement_px", "robust")
    num_frames = 16
    resolution = 96

    def encode(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 -> (B, 2 (T - 1)) float32: pixels right and down from each frame to the next; 0 where all is alike."""
        shifts = displacement_px(clips[:, :-1].float(), clips[:, 1:].float(), robust=True)
        return torch.nan_to_num(shifts).flatten(1)


def shift_errors(
    shifts: Mapping[str, Tensor], splits: Mapping[str, Sequence[Scene]], every: int = 1, run: int = 1
) -> pd.DataFrame:
    """As `probe_encoders`: the paper's probe on scene name -> (T, D) shifts, in rows of `NO_ENCODER` and the probe `SHIFT`."""
    train, test = (collect(splits[split], shifts, every, run) for split in ("train", "test"))
    probe = fit_mlp(train)
    return scene_rmse(probe.predict(test), test, probe.seeds, "published", encoder=NO_ENCODER, probe=SHIFT)
