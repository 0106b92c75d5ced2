"""Every point of the perception-distortion plane: the models as they are, and the dials that trade nearness for realism."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wamlab.analysis.calibration import ORACLE, fit_calibration, interpolate, training_calibration, warm_starts
from wamlab.analysis.frontier import CEILING
from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.windows import Windows
from wamlab.data.latents import LatentStore
from wamlab.models import BASELINES
from wamlab.types import Scene

#: Models that the plane has: what each is asked with, besides the steps of those that sample.
TRAINED = ("direct", "diffusion", "jump", "jump-diffusion")
ALPHAS = (0.25, 0.5, 0.75)
STRENGTHS = (0.2, 0.4, 0.7)
GUIDANCE = (2.0, 3.0)
MIXED, WARM, CALIBRATED, ORACLE_STYLE = "interpolation", "warm", "calibrated", "oracle"
ORACLE_NAME = "diffusion, oracle calibration"
#: Points that cannot be on the frontier.
NO_RESULT = (CEILING, ORACLE_NAME)


@dataclass(frozen=True)
class Setting:
    """A point of the plane.

    Attributes:
        name: its variant in tables.
        model: whose style it has in figures; those of one style are joined by a line.
        value: what is turned, in words.
        whole: it is looked at over the whole horizon, and not at the last step alone.
        note: what a reader should know of it.
    """

    name: str
    model: str
    value: str = ""
    whole: bool = False
    note: str = ""


def predictions(
    models: Mapping[str, Any],
    windows: Windows,
    store: LatentStore,
    train: Sequence[Scene],
    steps: int,
    guidance: float = 1.0,
    strength: float = 1.0,
    calibration_windows: int = 200,
    seed: int = 0,
) -> Iterator[tuple[Setting, Tensor]]:
    """Each `Setting` with its latents (N, F, c, h, w), one after the other, so that they need not all be held.

    Args:
        models: by name, those of `TRAINED` and `BASELINES`.
        train: training scenes, on which calibrations are estimated.
        steps, guidance: of diffusion as it is, which starts from noise alone, as the paper's does.
        strength: of the preset; where it is below 1, that is a point of its own.
    """
    asked = (windows.context, windows.actions)
    sampling = {"steps": steps, "guidance": guidance}

    def ask(name: str, **changes: Any) -> Tensor:
        how = sampling | {"strength": 1.0} | changes if name.endswith("diffusion") else {}
        return predict(Candidate(models[name], how), *asked, seed)

    def calibrated(name: str, preds: Tensor) -> Tensor:
        how = sampling | {"strength": 1.0} if name.endswith("diffusion") else {}
        shape = (windows.context.shape[1], windows.horizon)
        found = training_calibration(
            Candidate(models[name], how), store, train, *shape, calibration_windows, seed, batch=8
        )
        return found(preds)

    for name in BASELINES:
        yield Setting(name, name, whole=name == "copy"), ask(name)
    direct, drawn = ask("direct"), ask("diffusion")
    yield Setting("direct", "direct", whole=True), direct
    shifted = "mean and scale of each channel, estimated on training scenes"
    yield Setting("direct, calibrated", "direct-calibrated", whole=True, note=shifted), calibrated("direct", direct)

    for count in sorted({1, max(1, steps // 3), steps, 2 * steps}):
        if count == steps:
            yield Setting("diffusion", "diffusion", _counted(steps), whole=True, note="from noise alone"), drawn
        else:
            yield Setting(f"diffusion, {_counted(count)}", "diffusion", _counted(count)), ask("diffusion", steps=count)
    for weight in GUIDANCE:
        name = f"diffusion, guidance {weight:g}"
        yield Setting(name, "guided", f"weight {weight:g}"), ask("diffusion", guidance=weight)

    yield Setting("diffusion, calibrated", CALIBRATED, whole=True, note=shifted), calibrated("diffusion", drawn)
    note = "no result: its mean and scale were estimated on the very windows that it is judged on"
    oracle = fit_calibration(drawn, windows.truth, ORACLE)
    yield Setting(ORACLE_NAME, ORACLE_STYLE, "", note=note), oracle(drawn)

    note = "weighted mean of the latents of direct and of uncalibrated diffusion"
    for alpha in ALPHAS:
        setting = Setting(f"interpolation, α = {alpha:g}", MIXED, f"α = {alpha:g}", alpha == 0.5, note)
        yield setting, interpolate(direct, drawn, alpha)
    note = "diffusion that starts from the direct model's future with that share of the noise on it"
    for share, latents in warm_starts(models["diffusion"], *asked, direct, STRENGTHS, seed, **sampling).items():
        yield Setting(f"warm start, noise {share:g}", WARM, f"noise {share:g}", note=note), latents
    if strength < 1:
        note = "diffusion as the preset has it, from the moved present with noise on it"
        setting = Setting(f"diffusion, preset, noise {strength:g}", "diffusion", "as the preset has it", note=note)
        yield setting, ask("diffusion", strength=strength)

    yield Setting("jump", "jump", whole=True), ask("jump")
    chained = ask("jump-diffusion")
    yield Setting("jump-diffusion", "jump-diffusion", whole=True, note="each jump from noise alone"), chained
    setting = Setting("jump-diffusion, calibrated", "jump-diffusion", "calibrated")
    yield setting, calibrated("jump-diffusion", chained)


def ceiling(windows: Windows) -> tuple[Setting, Tensor]:
    """The true latents as a point."""
    note = "the true latents through the codec's decoder: what is missing here is the codec's loss"
    return Setting(CEILING, "ceiling", whole=True, note=note), windows.truth


def _counted(steps: int) -> str:
    return f"{steps} step" if steps == 1 else f"{steps} steps"
