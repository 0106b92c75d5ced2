"""The procedural driving world: roads, traffic, drivers, cameras. It knows nothing of models.

`synthesize` is imported when it is asked for, so that importing this package stays cheap.
"""


def synthesize(*args, **kwargs):
    """See `wamlab.world.synthetic.synthesize`."""
    from wamlab.world.synthetic import synthesize as implementation

    return implementation(*args, **kwargs)
