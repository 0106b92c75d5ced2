"""The procedural driving world: roads, traffic, drivers, cameras. It knows nothing of models.

| to do this | read these modules |
|---|---|
| lay out roads and paths | `road`, `junction`, `tracks`, `lanes` |
| move cars, people and the ego car | `population`, `traffic`, `following`, `driver`, `simulation` |
| say how it looks | `weather`, `scenery`, `primitives`, `texture`, `profile` |
| draw it | `camera`, `raster`, `ground`, `objects`, `shadow`, `shade`, `air`, `render`, `flow` |
| ask what would have happened | `counterfactual` |
| drive in a closed loop | `episode`, `collision`, `tracking`, `outcome`, `scenarios`, `ncap`, `scripted` |
| write it as a nuScenes dataset | `synthetic`, `filming`, `lidar`, `images`, `annotation`, `description`, `recording` |
| lay out its files | `nuscenes`, `tables`, `canbus`, `taxonomy` |

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
