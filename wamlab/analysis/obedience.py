"""Does the world obey the wheel? Steering sweeps of every model beside the truth: over the horizon, under guidance, and read backwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import render
from wamlab.analysis.claims import crossed
from wamlab.analysis.controllability import Sweep, recover, sweep, training_angles, true_sweep, wrong_actions
from wamlab.analysis.hands_on import encoded, samples, scrubbing, trained_range
from wamlab.analysis.obedience_scores import ANCHOR, SCORES, Measured, answer, effects, judge, relative_error
from wamlab.analysis.predicting import Candidate
from wamlab.analysis.rollouts import TRUTH, decode
from wamlab.analysis.steering import presents
from wamlab.config import override
from wamlab.errors import InvalidParameter
from wamlab.models import BASELINES, AnchorAlone, Jump
from wamlab.presets import get_preset
from wamlab.statistics import Interval, Undefined
from wamlab.types import Finding, Scene

MODELS = ("copy", "warp", "direct", "diffusion", "jump", "jump-diffusion")
#: Weights of guidance, of which 1 is none; the paper also has 2.
GUIDANCES = "1, 3"
#: Added to a seed for the noise of the futures whose steering is to be read.
OTHER_NOISE = 10_000
#: So many of the future frames are looked at, evenly spread.
NUM_FRAMES = 4
#: Scores that figures show over frames and guidance.
DRAWN = ("valid", "rho", "slope")
#: Rows of the tables, as they are headed; an arrow points towards better.
HEADINGS = {
    "rho": "Spearman's ρ ↑",
    "monotone": "strictly monotone ↑",
    "sign": "right sign ↑",
    "slope": "slope on the truth (truth = 1)",
}
PAPER_HEADINGS = {
    "paper_rho": "ρ ↑, as the paper counts",
    "paper_positive": "of these, ρ > 0 ↑",
    "rho_all": "ρ ↑, 0 where still",
}


@dataclass(frozen=True)
class Obedience:
    """What notebook 04 shows.

    Attributes:
        strips: candidate -> (3, R, R, 3) uint8: one future frame with the wheel to the left, in the middle of the sweep and to the right.
        strips_note: which drive and frame that is. scrub: what an `ActionScrubber` asks about the drive.
        curves: candidate, time_s, angle_rad, mean, low, high, n: shift in pixels.
        levels: candidate, guidance, time_s, score, mean, low, high, n: those of `SCORES` that could be measured.
        recovered: as in `Measured`; relative: candidate -> error over chance.
        effect: candidate, mean, low, high, n: cosine similarity with the drive's own actions minus that with another's.
        table, paper_table: a row a candidate, as text, of the headline frame.
        guidance: of all that is not said to be of another.
        weights: where each model's are from. answer: from the measurements. metrics: named numbers for the run folder.
    """

    strips: Mapping[str, np.ndarray]
    strips_note: str
    scrub: dict[str, Any]
    curves: pd.DataFrame
    levels: pd.DataFrame
    recovered: pd.DataFrame
    relative: Mapping[str, Interval | Undefined]
    effect: pd.DataFrame
    table: pd.DataFrame
    paper_table: pd.DataFrame
    findings: tuple[Finding, ...]
    guidance: float
    weights: str
    answer: str
    metrics: dict[str, float]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_scenes: int = 0,
    num_angles: int = 5,
    frame: int = 1,
    guidances: str = GUIDANCES,
    steps: int = 0,
    seed: int = 0,
    models: Sequence[str] = MODELS,
    weights: str = "shipped",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Obedience:
    """Load or train each model with each of the preset's seeds, and steer it from one present of each held-out scene.

    Args:
        num_scenes, steps: 0 means the preset's `eval_scenes` and `sampler_steps`; weights: one of `pretrained.CHOICES`.
        num_angles: of the sweep, over what training scenes steer. frame: the future frame of the headline numbers.
        guidances: weights to compare with the preset's, as in "1, 3".

    Raises `InvalidParameter` for weights that are no numbers, fewer than 3 angles, a frame outside the horizon, or scenes none of which
    is fast enough.
    """
    from wamlab.codecs import load_codec
    from wamlab.data import open_dataset
    from wamlab.data.latents import LatentStore
    from wamlab.pretrained import obtain

    settings = override(get_preset(preset), overrides or {})
    num_scenes, steps = num_scenes or settings.eval_scenes, steps or settings.sampler_steps
    if num_angles < 3 or not 1 <= frame <= settings.horizon:
        raise InvalidParameter(
            f"num_angles must be 3 or more and frame 1 to the horizon of {settings.horizon}, not {num_angles} and {frame}"
        )
    compared = guidance_weights(guidances)
    data, codec = open_dataset(dataset), load_codec(settings.codec, "cuda" if torch.cuda.is_available() else "cpu")
    store, training = LatentStore(data, codec, settings.resolution), data.scenes("train")
    window = {"num_context": settings.num_context, "horizon": settings.horizon}
    asked = presents(data.scenes("test")[:num_scenes], **window)
    seeds, ready, origins = [seed + s for s in settings.seeds], {}, {}
    for s in seeds:
        for name in models if s == seeds[0] else [m for m in models if m not in BASELINES]:
            ready[name, s], origins[name] = obtain(name, settings, data, codec, store, s, progress, weights)
    store.fill([scene for scene, _ in asked], progress=progress)
    still = {
        (ANCHOR, s): AnchorAlone(m) for (name, s), m in ready.items() if name == "diffusion" and m.config.ego_motion
    }
    sampling = {"steps": steps, "guidance": settings.guidance, "strength": settings.strength}
    simple = {key: model for key, model in ready.items() if key[0] in BASELINES}
    candidates = {key: Candidate(model, sampling) for key, model in {**simple, **still, **ready}.items()}
    shown = middle_by_speed(asked)
    measured, pictures = measure(
        candidates, codec, store, asked, training_angles(training, num_angles), frame, shown, compared, **window
    )

    scene, t = asked[shown]
    steered = {name: model for (name, s), model in ready.items() if s == seeds[0] and name not in BASELINES}
    trained = trained_range(training)
    scrub = scrubbing(
        steered,
        codec,
        scene,
        t,
        settings.horizon,
        settings.resolution,
        settings.num_context,
        trained,
        strength=settings.strength,
    )
    found = analyse(measured, f"{dataset} data, {preset} preset", seed)
    about = f"{scene.name}: {', '.join(scene.attributes.values()) or 'as recorded'}, {scene.actions[t, 2]:.0f} m/s"
    return dataclasses.replace(
        found, scrub=scrub, strips=strips(pictures, codec), strips_note=strips_note(measured, about),
        weights="; ".join(f"{name}: {origin}" for name, origin in origins.items() if name not in BASELINES),
    )  # fmt: skip


def measure(
    candidates: Mapping[tuple[str, int], Candidate],
    codec: Any,
    store: Any,
    asked: Sequence[tuple[Scene, int]],
    angles_rad: np.ndarray,
    frame: int,
    shown: int,
    guidances: Sequence[float],
    num_context: int,
    horizon: int,
) -> tuple[Measured, dict[str, Tensor]]:
    """Sweep, ask backwards and confuse every candidate (name, seed), from the same presents.

    Args:
        asked: of `presents`. frame: of the headline numbers. guidances: swept beside the candidates' own, at `frame` and the last.
        shown: which present's pictures are wanted, (A, 3, R, R) of each candidate at the last frame, `TRUTH` first.
    """
    scene, t = asked[shown]
    frames = [
        frame,
        *sorted({*np.linspace(1, horizon, min(horizon, NUM_FRAMES)).round().astype(int).tolist()} - {frame}),
    ]
    window = {"num_context": num_context, "horizon": horizon}
    names = tuple(scene.name for scene, _ in asked)
    rng, first = np.random.default_rng(0), next(iter(candidates))[1]
    cells, shifts, recovered, errors, actions, pictures = [], [], [], [], [], {}

    def take(name: str, seed: int, swept: Sweep, guidance: float, seen: Sequence[int]) -> None:
        about = {"candidate": name, "guidance": guidance, "seed": seed, "scene": names}
        cells.extend(
            pd.DataFrame({**about, "frame": k, **swept.cells(angles_rad, i, truth)}) for i, k in enumerate(seen)
        )

    def note(name: str, seed: int, swept: Sweep) -> None:
        where = {"scene": np.repeat(names, len(angles_rad)), "angle_rad": np.tile(angles_rad, len(names))}
        about = {"candidate": name, "seed": seed, **where}
        shifts.extend(
            pd.DataFrame({**about, "frame": k, "shift_px": swept.shifts_px[..., i].ravel()})
            for i, k in enumerate(frames)
        )
        if seed == first:
            pictures[name] = swept.kept[shown][:, frames.index(max(frames))]

    guidance = next(iter(candidates.values())).settings.get("guidance", 1.0)
    truth = true_sweep(asked, angles_rad, frames, store.resolution, [shown])
    if truth is not None:
        take(TRUTH, first, truth, guidance, frames)
        note(TRUTH, first, truth)
    for (name, seed), candidate in candidates.items():
        swept = sweep(candidate, codec, store, asked, angles_rad, frames=frames, seed=seed, keep=[shown], **window)
        take(name, seed, swept, guidance, frames)
        note(name, seed, swept)
        about, near = {"candidate": name, "seed": seed}, window | {"horizon": reach(candidate.model, frame, horizon)}
        between, inverse = recover(
            candidate, codec, store, asked, angles_rad, swept, frame=frame, seed=seed + OTHER_NOISE, rng=rng, **near
        )
        errors.append(pd.DataFrame({**about, "scene": names, "error": inverse.error_of, "chance": inverse.chance_of}))
        where = {"scene": np.repeat(names, len(between)), "asked_rad": np.tile(between, len(names))}
        recovered.append(pd.DataFrame({**about, **where, "named_rad": inverse.named_rad.ravel()}))
        if len(asked) > 1:
            scenes = [scene for scene, _ in asked]
            actions.append(wrong_actions({name: candidate}, store, scenes, seed=seed, **window))
        for weight in guidances if samples(candidate.model) and name != ANCHOR else ():
            if weight != guidance:
                guided = Candidate(candidate.model, {**candidate.settings, "guidance": weight})
                ends = sorted({frame, max(frames)})
                swept = sweep(guided, codec, store, asked, angles_rad, frames=ends, seed=seed, **window)
                take(name, seed, swept, weight, ends)
    times_s = {k: round(float(scene.timestamps_s[t + k] - scene.timestamps_s[t]), 3) for k in sorted(frames)}
    joined = [
        pd.concat(part, ignore_index=True) if part else pd.DataFrame()
        for part in (cells, shifts, recovered, errors, actions)
    ]
    return Measured(angles_rad, names, times_s, frame, guidance, *joined), pictures


def guidance_weights(text: str) -> tuple[float, ...]:
    """The numbers in "1, 3". Raises `InvalidParameter`."""
    try:
        return tuple(float(part) for part in str(text).split(",") if part.strip())
    except ValueError:
        raise InvalidParameter(f"guidances must be weights such as {GUIDANCES!r}, not {text!r}") from None


def reach(model: Any, frame: int, horizon: int) -> int:
    """How far a model must be rolled out for the frame at hand: a chain only that far, others over the whole horizon at once."""
    return frame if isinstance(model, Jump) and frame % model.config.jump == 0 else horizon


def analyse(m: Measured, measured_on: str, seed: int = 0) -> Obedience:
    """Scores, claims and words: everything after the models have run."""
    rng = np.random.default_rng(seed)
    names = list(m.cells.candidate.drop_duplicates())
    n, num_seeds = len(m.scenes), m.cells.seed.nunique()
    on = f"{measured_on}, {n} held-out drive{'s' * (n != 1)}, {num_seeds} seed{'s' * (num_seeds != 1)}"
    places = m.cells[["candidate", "guidance", "frame"]].drop_duplicates().itertuples(index=False)
    found = {
        (name, guidance, frame, score): m.score(score, name, rng, frame, guidance)
        for name, guidance, frame in places
        for score in (SCORES if (frame, guidance) == (m.frame, m.guidance) else DRAWN)
        if score != "slope" or TRUTH in names
    }
    levels = [
        {"candidate": c, "guidance": g, "time_s": m.times_s[f], "score": s, **vars(i)}
        for (c, g, f, s), i in found.items()
        if isinstance(i, Interval)
    ]
    here = {(c, s): i for (c, g, f, s), i in found.items() if (g, f) == (m.guidance, m.frame)}
    relative = {name: relative_error(m, name, rng) for name in names if name != TRUTH}
    effect = effects(m, rng)
    findings = judge(m, effect, on, rng)
    headings = {s: h for s, h in HEADINGS.items() if s != "slope" or TRUTH in names}
    table = {
        name: {"valid drives": count(m, "valid", name)} | {h: said(here[name, s]) for s, h in headings.items()}
        for name in names
    }
    for name in names:
        table[name]["inverse control, error over chance ↓"] = said(relative[name]) if name in relative else "–"
    paper_table = {
        name: {"valid drives, in whole pixels": count(m, "paper_valid", name)}
        | {h: said(here[name, s]) for s, h in PAPER_HEADINGS.items()}
        for name in names
    }
    metrics = {f"{name}/{score}": float(i.mean) for (name, score), i in here.items() if isinstance(i, Interval)}
    metrics |= {f"{name}/relative": float(i.mean) for name, i in relative.items() if isinstance(i, Interval)}
    metrics |= {f"{name}/effect": float(i.mean) for name, i in effect.items()}
    columns = ["candidate", "guidance", "time_s", "score", "mean", "low", "high", "n"]
    return Obedience(
        {}, "", {}, curves(m, rng), pd.DataFrame(levels, columns=columns), m.recovered, relative,
        pd.DataFrame([{"candidate": c, **vars(i)} for c, i in effect.items()], columns=["candidate", "mean", "low", "high", "n"]),
        pd.DataFrame.from_dict(table, orient="index"), pd.DataFrame.from_dict(paper_table, orient="index"),
        tuple(findings.values()), m.guidance, "", answer(m, findings, rng), metrics,
    )  # fmt: skip


def curves(m: Measured, rng: np.random.Generator) -> pd.DataFrame:
    """candidate, time_s, angle_rad, mean, low, high, n: the shift of the picture; with one drive low and high are the mean."""
    rows = []
    for (name, frame, angle), part in m.shifts.groupby(["candidate", "frame", "angle_rad"], sort=False):
        found = crossed(part.pivot(index="scene", columns="seed", values="shift_px").to_numpy(), rng)
        rows.append({"candidate": name, "time_s": m.times_s[frame], "angle_rad": angle, **vars(found)})
    return pd.DataFrame(rows)


def said(found: Interval | Undefined) -> str:
    """`0.81 [0.70, 0.93]`, or that there is no number."""
    if isinstance(found, Undefined):
        return "not measured"
    middle, low, high = (
        f"{round(float(x), 2) + 0.0:.2f}".replace("-", "−") for x in (found.mean, found.low, found.high)
    )
    return f"{middle} [{low}, {high}]"


def count(m: Measured, column: str, name: str) -> str:
    """`18 of 40`, the mean over seeds."""
    valid = m.of(column, name)
    return f"{valid.sum(0).mean():.3g} of {len(valid)}"


def middle_by_speed(asked: Sequence[tuple[Scene, int]]) -> int:
    """Which of the presents is neither slow nor fast: the one that is shown."""
    speeds = [float(scene.actions[t, 2]) for scene, t in asked]
    return int(np.argsort(speeds, kind="stable")[len(speeds) // 2])


def strips(pictures: Mapping[str, Tensor], codec: Any) -> dict[str, np.ndarray]:
    """Left, middle and right of (A, 3, R, R) pictures; the truth through the codec as the others are."""
    chosen = {name: seen[[-1, len(seen) // 2, 0]] for name, seen in pictures.items()}
    return {
        name: render.to_hwc(decode(codec, encoded(codec, seen)) if name == TRUTH else seen)
        for name, seen in chosen.items()
    }


def strips_note(m: Measured, about: str) -> str:
    angles = m.angles_rad[[-1, len(m.angles_rad) // 2, 0]]
    held = ", ".join(f"{abs(a):.2f} rad {'left' if a > 0 else 'right'}" for a in angles)
    return f"The same present, {max(m.times_s.values()):g} s later, the wheel held at {held}. {about}."
