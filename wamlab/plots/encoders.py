"""Figures of frozen encoders: who tells the actions best, on what, under which conditions, and where each looks. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from wamlab.analysis.encoder_views import Look
from wamlab.analysis.encoders import NO_ENCODER, PAPER_PROBE, untrained
from wamlab.analysis.readout import Readout
from wamlab.metrics.readout import IGNORE
from wamlab.plots.dots import add_dots as _dots
from wamlab.plots.sheets import contact_sheet
from wamlab.plots.style import TEMPLATE, Style, encoder_style
from wamlab.render import to_hwc
from wamlab.world.primitives import SEMANTIC_COLOURS, Semantic

#: Target -> the axis title, with the unit and an arrow towards better.
TARGET_AXES = {"steering_rad": "steering error, of 6 rad ↓", "accel_mps2": "acceleration error, of 10 m/s² ↓"}
#: The same for the share of the mean action's squared error that is explained.
EXPLAINED_AXES = {"steering_rad": "steering explained ↑", "accel_mps2": "acceleration explained ↑"}
#: Baseline -> what a figure calls it.
BASELINES = {
    "mean action": "the mean action",
    "last action": "the action one frame before",
    "image shift": "the shift of the picture",
}
_NEUTRAL, _FAINT, _HOT = "#8a8a8a", "rgba(128,128,128,.08)", (255, 96, 32)


def ranking_dots(probes: pd.DataFrame, title: str = "", probe: str = PAPER_PROBE) -> go.Figure:
    """A panel for each target: the error of `probe` on each encoder with its interval, the best on top; hollow: never trained.

    `probes` has the columns target, encoder, probe, mean, low, high and n. Baselines that look at nothing stand below, and as lines.
    """
    figure = make_subplots(cols=len(TARGET_AXES), shared_yaxes=True, horizontal_spacing=0.06)
    blind = probes.encoder == NO_ENCODER
    shown = probes.assign(key=np.where(blind, probes.probe, probes.encoder))[(probes.probe == probe) | blind]
    steering = shown[(shown.target == next(iter(TARGET_AXES))) & (shown.encoder != NO_ENCODER)].sort_values("mean")
    order = [*BASELINES, *steering.key[::-1]]
    for column, (target, axis) in enumerate(TARGET_AXES.items(), 1):
        rows = shown[shown.target == target].set_index("key").reindex(order).dropna(subset="mean")
        styles = [Style(_NEUTRAL, BASELINES[key]) if key in BASELINES else encoder_style(key) for key in rows.index]
        _dots(figure, rows, styles, column)  # first: plotly draws no line in an empty panel
        for key in rows.index.intersection(list(BASELINES)):
            line = {"color": _NEUTRAL, "width": 1.5, "dash": "dot"}
            figure.add_vline(x=rows.loc[key, "mean"], line=line, row=1, col=column)
        figure.update_xaxes(title_text=axis, rangemode="tozero", showgrid=True, row=1, col=column)
    n = int(shown.n.max()) if len(shown) else 0
    note = (
        f"Mean over {n} held-out drives, 95 % bootstrap intervals over drives; hollow: the same network, never trained."
    )
    return _laid_out(figure, title, note, 130 + 34 * len(order))


def seen_dots(temporal: pd.DataFrame, title: str = "") -> go.Figure:
    """A panel for each target: the error by what V-JEPA 2 is shown, from `Study.temporal`."""
    figure = make_subplots(cols=len(TARGET_AXES), shared_yaxes=True, horizontal_spacing=0.06)
    for column, (target, axis) in enumerate(TARGET_AXES.items(), 1):
        rows = temporal[temporal.target == target].iloc[::-1]
        names = [BASELINES.get(seen, seen) for seen in rows.seen]
        styles = [
            Style(_NEUTRAL, name) if row.encoder == NO_ENCODER else encoder_style(row.encoder)._replace(label=name)
            for row, name in zip(rows.itertuples(), names, strict=True)
        ]
        _dots(figure, rows, styles, column)
        figure.update_xaxes(title_text=axis, rangemode="tozero", showgrid=True, row=1, col=column)
    n = int(temporal.n.max()) if len(temporal) else 0
    return _laid_out(figure, title, f"Mean over {n} held-out drives; 95 % bootstrap intervals over drives.", 320)


def explained_dots(table: pd.DataFrame, title: str = "", probe: str = PAPER_PROBE) -> go.Figure:
    """A panel for each target: how much of the mean action's squared error `probe` takes away, from `Study.explained`."""
    figure = make_subplots(cols=len(EXPLAINED_AXES), shared_yaxes=True, horizontal_spacing=0.06)
    blind = table.encoder == NO_ENCODER
    shown = table.assign(key=np.where(blind, table.probe, table.encoder))[(table.probe == probe) | blind]
    steering = shown[(shown.target == next(iter(EXPLAINED_AXES))) & (shown.encoder != NO_ENCODER)].sort_values("mean")
    order = [key for key in BASELINES if key != "mean action"] + list(steering.key)
    for column, (target, axis) in enumerate(EXPLAINED_AXES.items(), 1):
        rows = shown[shown.target == target].set_index("key").reindex(order).dropna(subset="mean")
        styles = [Style(_NEUTRAL, BASELINES[key]) if key in BASELINES else encoder_style(key) for key in rows.index]
        _dots(figure, rows, styles, column)
        figure.add_vline(x=0, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title_text=axis, tickformat=".0%", showgrid=True, row=1, col=column)
    n = int(shown.n.max()) if len(shown) else 0
    note = f"{n} held-out drives, 95 % bootstrap intervals over drives; dotted: the mean action; hollow: never trained."
    return _laid_out(figure, title, note, 130 + 34 * len(order))


def learning_lines(table: pd.DataFrame, title: str = "", target: str = "steering_rad") -> go.Figure:
    """The same by the number of training drives, from `Study.learning`."""
    figure = go.Figure()
    for name, rows in table[table.target == target].groupby("encoder", sort=False):
        style = encoder_style(name)
        figure.add_scatter(
            x=rows.drives, y=rows["mean"], mode="lines+markers", name=style.label, line={"color": style.color},
            error_y={"array": rows.high - rows["mean"], "arrayminus": rows["mean"] - rows.low, "color": style.color, "thickness": 1},
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title_text="training drives", type="log", tickvals=sorted(table.drives.unique()))
    means = table[table.target == target]["mean"]
    reach = [
        1.1 * min(0.0, means.min()) - 0.1,
        1.1 * max(0.0, means.max()) + 0.1,
    ]  # of the means: few drives have wide intervals
    figure.update_yaxes(title_text=EXPLAINED_AXES[target], tickformat=".0%", range=reach)
    n = int(table.n.max()) if len(table) else 0
    return _laid_out(
        figure, title, f"{n} held-out drives; 95 % bootstrap intervals over drives; dotted: the mean action.", 380
    )


def age_of_attention(moments: pd.DataFrame, title: str = "") -> go.Figure:
    """Which share of what the steering hangs on is how old, from `Study.moments`; dotted: were all moments alike."""
    style = encoder_style("vjepa2-rep64")
    figure = go.Figure()
    figure.add_bar(
        x=-moments.age_s, y=100 * moments["mean"], marker={"color": style.color}, showlegend=False,
        error_y={"array": 100 * (moments.high - moments["mean"]), "arrayminus": 100 * (moments["mean"] - moments.low), "color": _NEUTRAL},
        hovertemplate="%{y:.1f} %<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=100 / len(moments), line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title_text="time before the present, s")
    figure.update_yaxes(title_text="share of attribution, %", rangemode="tozero")
    note = f"Mean over the last frames of {int(moments.n.max())} held-out drives; dotted: every moment alike."
    return _laid_out(figure, title, note, 340)


def heat_map(buckets: pd.DataFrame, changes: pd.DataFrame, title: str = "", target: str = "steering_rad") -> go.Figure:
    """Encoder × condition. Left: the error in each kind of weather and light. Right: what a perturbation adds to it.

    Bold: the interval of the change excludes zero.
    """
    changed = changes[changes.target == target]
    inside = buckets[(buckets.target == target) & buckets.encoder.isin(changed.encoder)]
    order = inside.groupby("encoder")["mean"].mean().sort_values(ascending=False).index
    kinds, harms = list(inside.bucket.unique()), list(changed.perturbation.unique())
    means = inside.pivot(index="encoder", columns="bucket", values="mean").loc[order, kinds]
    added, low, high = (
        changed.pivot(index="encoder", columns="perturbation", values=value).loc[order, harms]
        for value in ("mean", "low", "high")
    )
    figure = make_subplots(
        cols=2, shared_yaxes=True, horizontal_spacing=0.03, column_widths=[len(kinds), len(harms)],
        subplot_titles=[f"error, {TARGET_AXES[target].split(', ')[1]}", "added to it by a perturbation"],
    )  # fmt: skip
    means.columns = [f"{kind}<br>n = {inside[inside.bucket == kind].n.iloc[0]}" for kind in kinds]
    _cells(figure, means, means.map("{:.3f}".format), [[0, _FAINT], [1, "#d9541e"]], 0, means.to_numpy().max(), 1)
    sure = ((low > 0) | (high < 0)).to_numpy()
    plain = added.map(lambda value: "" if np.isnan(value) else f"{value:+.3f}".replace("-", "−"))
    text = plain.where(~sure, "<b>" + plain + "</b>")
    reach = float(np.nanmax(np.abs(added.to_numpy())))
    _cells(figure, added, text, [[0, "#2a86d1"], [0.5, _FAINT], [1, "#d9541e"]], -reach, reach, 2)
    figure.update_yaxes(showgrid=False)
    note = "Bold: the 95 % interval of the change excludes zero. Probes are fitted to frames as they are."
    return _laid_out(figure, title, note, 220 + 40 * len(order))


def _cells(
    figure: go.Figure, values: pd.DataFrame, text: pd.DataFrame, scale: list, low: float, high: float, column: int
) -> None:
    labels = [encoder_style(name).label for name in values.index]
    figure.add_heatmap(
        z=values.to_numpy(), x=list(values), y=labels, text=text.to_numpy(), texttemplate="%{text}", colorscale=scale, zmin=low,
        zmax=high, showscale=False, xgap=2, ygap=2, textfont={"size": 12}, hoverinfo="skip", row=1, col=column,
    )  # fmt: skip


def readout_dots(table: pd.DataFrame, title: str = "") -> go.Figure:
    """The mean IoU of the classes read out of each encoder's patches, the best on top."""
    figure = make_subplots(cols=1)
    rows = table.sort_values("mean").set_index("encoder")
    styles = [
        Style(_NEUTRAL, "the commonest class at each pixel") if name == NO_ENCODER else encoder_style(name)
        for name in rows.index
    ]
    _dots(figure, rows, styles, 1)
    figure.update_xaxes(title_text="mean IoU ↑", rangemode="tozero", showgrid=True)
    note = f"One frame of each of {int(table.n.max())} held-out drives; 95 % bootstrap intervals over drives; hollow: never trained."
    return _laid_out(figure, title, note, 130 + 30 * len(rows))


def attribution_scenes(shown: Sequence[Look]) -> list[dict[str, Any]]:
    """Scenes for the `RolloutPlayer`: the camera, and what each encoder sees with the patches that its steering hangs on lit up."""
    return [
        {
            "name": look.scene,
            "note": look.note,
            "rows": {"camera": look.camera}
            | {name: _sized(lit(look.seen[name], heat), look.camera.shape[1]) for name, heat in look.heat.items()},
            "errors": dict(look.errors),
            "actions": look.actions,
            "times_s": look.times_s,
        }
        for look in shown
    ]


def lit(frames: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 in grey, glowing where `heat` (T, h, w) in [0, 1] is high."""
    height, width = frames.shape[1:3]
    warm = torch.nn.functional.interpolate(torch.as_tensor(heat)[:, None].float(), (height, width), mode="bilinear")
    warm = warm.clamp(0, 1)[:, 0, :, :, None].numpy()
    grey = frames.mean(-1, keepdims=True)
    strength = 0.8 * warm**1.5  # so that a patch of middling weight is hardly tinted
    glow = 0.85 * grey * (1 - strength) + strength * np.array(_HOT)
    return glow.clip(0, 255).astype(np.uint8)


def component_sheet(shown: Sequence[Look], columns: int = 6) -> np.ndarray:
    """The camera's frames and, below, the main components of each encoder's patches as colours: one picture (h, w, 3)."""
    places = [(i, t) for i, look in enumerate(shown) for t in range(len(look.camera))]
    places = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, columns).round().astype(int))]
    size = shown[0].camera.shape[1]
    frames, labels = [shown[i].camera[t] for i, t in places], ["camera"] + [""] * (len(places) - 1)
    for name in shown[0].colours:
        frames += [_sized(shown[i].colours[name][t : t + 1], size)[0] for i, t in places]
        labels += [encoder_style(name).label] + [""] * (len(places) - 1)
    return contact_sheet(np.stack(frames), labels, columns=len(places))


def readout_sheet(readout: Readout, encoders: Sequence[str] = ()) -> np.ndarray:
    """Frames, their true classes and those read out of each encoder's patches (by default of all that were trained), as one picture."""
    trained = [name for name in readout.predicted if name == NO_ENCODER or not untrained(name)]
    names = list(encoders) or (trained if len(trained) > 1 else list(readout.predicted))
    rows = [to_hwc(readout.frames), class_colours(readout.truth)] + [class_colours(readout.predicted[n]) for n in names]
    titles = ["camera", "truth", *("commonest class" if n == NO_ENCODER else encoder_style(n).label for n in names)]
    count = len(readout.frames)
    labels = [text for name in titles for text in (name, *[""] * (count - 1))]
    return contact_sheet(np.concatenate(rows), labels, columns=count)


def class_colours(maps: torch.Tensor) -> np.ndarray:
    """(N, H, W) class ids -> (N, H, W, 3) uint8; black where nothing is said."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[: len(Semantic)] = [SEMANTIC_COLOURS[kind] for kind in Semantic]
    return table[maps.long().numpy()]


def player_styles(shown: Sequence[Look]) -> dict[str, dict[str, str]]:
    """Colours and labels of the rows of `attribution_scenes`, as the widget takes them."""
    encoders = {name: encoder_style(name) for look in shown for name in look.heat}
    return {"camera": {"color": _NEUTRAL, "label": "camera"}} | {
        name: {"color": style.color, "label": style.label} for name, style in encoders.items()
    }


def cost_table(cost: pd.DataFrame) -> pd.DataFrame:
    """`Study.cost` for reading."""
    names = {
        "frames_per_s": "frames/s ↑", "ms": "ms a frame ↓", "memory_mib": "memory, MiB ↓", "parameters_m": "parameters, M",
    }  # fmt: skip
    table = cost.assign(encoder=[encoder_style(name).label for name in cost.encoder]).set_index("encoder")
    return table[list(names)].rename(columns=names).rename_axis(None).round(1)


def error_table(probes: pd.DataFrame, target: str = "steering_rad") -> pd.DataFrame:
    """`EncoderStudy.probes` for reading: a row an encoder, a column a probe, `mean [low, high]`."""
    rows = probes[(probes.target == target) & (probes.encoder != NO_ENCODER)]
    text = [f"{r.mean:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows.itertuples()]
    wide = rows.assign(text=text).pivot(index="encoder", columns="probe", values="text")
    wide = wide.loc[rows.encoder.unique(), rows.probe.unique()]
    wide.index = [encoder_style(name).label for name in wide.index]
    return wide.rename_axis(None, axis=1)


def pair_table(pairs: pd.DataFrame, target: str = "steering_rad") -> pd.DataFrame:
    """`EncoderStudy.pairs` for reading."""
    rows = pairs[pairs.target == target]
    named = {side: [encoder_style(name).label for name in rows[side]] for side in ("a", "b")}
    names = {"p_bonferroni": "p, Bonferroni", "p_holm": "p, Holm"}
    return rows.assign(**named).drop(columns=["target", "n"]).rename(columns=names).set_index(["a", "b"]).round(4)


def _laid_out(figure: go.Figure, title: str, note: str, height: int) -> go.Figure:
    return figure.update_layout(
        template=TEMPLATE, height=height, hovermode="closest", title={"text": title, "subtitle": {"text": note}}
    )


def _sized(frames: np.ndarray, side: int) -> np.ndarray:
    """(T, h, w, 3) at `side` pixels, each the nearest."""
    rows, columns = (np.arange(side) * n // side for n in frames.shape[1:3])
    return frames[:, rows[:, None], columns]
