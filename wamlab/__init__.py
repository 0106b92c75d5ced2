"""wamlab: the notebook-driven workbench for world-action models of driving.

Importing this package is cheap (no torch): import the modules you use, e.g. ``from wamlab.data import open_dataset``.
"""

__version__ = "0.1.0"
