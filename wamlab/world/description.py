"""A drive in words, as nuScenes describes its scenes: from what happens in it and what the cameras see. No drawing."""


def describe(world, log, tracks):
    return world.spec.description
