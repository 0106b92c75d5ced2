"""The procedural driving world: roads, traffic, drivers, cameras. It knows nothing of models."""
