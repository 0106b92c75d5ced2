"""The errors a user can cause. Each message names the thing, the value given, what is allowed and what to do.

The command line prints a `WamlabError` as one line and exits with status 2; anything else is a bug and keeps its traceback.
"""


class WamlabError(Exception):
    """Base of every error that the user can mend."""


class DatasetMissing(WamlabError):
    """No dataset at the path."""


class DatasetIncomplete(WamlabError):
    """A dataset is there, but a table, a folder or a file of it is not."""


class CanBusMissing(WamlabError):
    """A scene (or the whole dataset) has no CAN-bus messages, so its actions are unknown."""


class ImageDamaged(WamlabError):
    """A camera image is missing, truncated or not an image."""


class LabelsMissing(WamlabError):
    """A scene has no semantic maps or no depth."""


class CounterfactualUnknown(WamlabError):
    """What would have happened is asked of a drive that cannot be replayed: a recorded one, or one of another version of the world."""


class InvalidAction(WamlabError):
    """An action sequence has NaN or infinite values, or the wrong shape."""


class ActionOutOfRange(UserWarning):
    """A model was asked about actions far outside those it was trained on: it answers, as a sweep may want, but extrapolates."""


class InvalidShape(WamlabError):
    """A tensor has another shape than the one stated."""


class HorizonTooLong(WamlabError):
    """A window, rollout or replay would reach past the end of its scene."""


class EpisodeEnded(WamlabError):
    """An episode was stepped after its end: a collision, the goal, or the time limit."""


class UnknownName(WamlabError):
    """A model, codec, preset, dataset, scene or notebook of this name does not exist."""

    def __init__(self, kind: str, name: object, known: object) -> None:
        known = sorted(str(k) for k in known)
        super().__init__(f"unknown {kind} {str(name)!r}; known: {', '.join(known) if known else '(none)'}")


class InvalidParameter(WamlabError):
    """A configuration field or notebook parameter is unknown, mistyped or out of range."""


class CheckpointMismatch(WamlabError):
    """A checkpoint belongs to another model or version, or is damaged."""


class TrainingDiverged(WamlabError):
    """The loss or its gradient became NaN or infinite; the weights of the last checkpoint are from before."""


class WeightsMissing(WamlabError):
    """The weights of a model or codec are neither here nor within reach."""


class WriteFailed(WamlabError):
    """A file could not be written, e.g. because the disk is full; what was there before is still there."""


class TooFewSamples(WamlabError):
    """A number is asked of fewer frames or scenes than it can be computed from."""


class GatewayUnreachable(WamlabError):
    """No Jupyter kernel gateway answers at the address."""


class ClusterUnreachable(WamlabError):
    """No Ray cluster can be used, or its machines do not share the project's files."""


class BrowserMissing(WamlabError):
    """Something needs Chromium, which is not there."""


class ExtraMissing(WamlabError):
    """A number, a model or a command needs an optional part of the installation."""
