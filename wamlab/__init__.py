"""wamlab: the notebook-driven workbench for world-action models of driving.

Importing this package is cheap (no torch): import the modules you use, e.g. ``from wamlab.data import open_dataset``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wamlab.pretrained import Pretrained

__version__ = "0.1.0"


def load(name: str, device: str = "cpu") -> Pretrained:
    """Trained models that come with the package, as a `wamlab.pretrained.Pretrained`: `wamlab.load("dit-wam/quick")["diffusion"]`."""
    from wamlab.pretrained import load

    return load(name, device)
