"""The procedural driving world: roads, traffic, drivers, cameras. It knows nothing of models.

`synthesize` and `replay` are imported when they are asked for, so that importing this package stays cheap.
"""


def synthesize(*args, **kwargs):
    """See `wamlab.world.synthetic.synthesize`."""
    from wamlab.world.synthetic import synthesize as implementation

    return implementation(*args, **kwargs)


def replay(*args, **kwargs):
    """See `wamlab.world.counterfactual.replay`."""
    from wamlab.world.counterfactual import replay as implementation

    return implementation(*args, **kwargs)
