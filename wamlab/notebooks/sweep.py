"""`wamlab sweep`: a notebook over a grid of parameters; one tidy table and one page. What completed before is not run again."""

from __future__ import annotations

import dataclasses
import html
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wamlab.config import digest, reports_dir
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.files import write_file
from wamlab.notebooks.cluster import run_on_ray
from wamlab.notebooks.console import Console, short
from wamlab.notebooks.execute import Outcome
from wamlab.notebooks.export import export, write_page
from wamlab.notebooks.job import Job, Settings, find_notebook, prepare
from wamlab.notebooks.pool import run_jobs
from wamlab.notebooks.show import number, parquet

if TYPE_CHECKING:
    import pandas as pd

ENGINES = ("local", "ray")
#: So many metrics are drawn, the first ones; the table has all.
MAX_DRAWN = 12


def sweep(
    notebook: str,
    over: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
    settings: Settings | None = None,
    workers: int = 1,
    engine: str = "local",
    gpus: float | None = None,
) -> bool:
    """Run a notebook at every point of a grid, write its table and its page, `reports/sweep-….{csv,html}`; False if any point failed.

    Args:
        over: parameter -> the values it takes, as text.
        given: parameters that are the same at every point.
        engine: one of `ENGINES`: `local` runs `workers` at a time here, `ray` on each machine of a cluster, as `run_on_ray` says.
        gpus: of each point, on Ray.

    Raises `InvalidParameter` for an empty grid, a parameter that is both given and varied, or a value given twice, `UnknownName` for the
    engine, and what `prepare` and `run_on_ray` raise, all before anything runs.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if gpus is not None and engine != "ray":
        raise InvalidParameter(f"GPUs are shared out by the engine ray alone, not by {engine}; add: --engine ray")
    if both := sorted({*over} & {*given}) or [name for name, values in over.items() if not values] or not over:
        raise InvalidParameter(
            f"sweep needs --over NAME=A,B,… for parameters that -p does not give, each with values; not {both or dict(over)}"
        )
    path = find_notebook(notebook)
    settings = dataclasses.replace(settings or Settings(), resume=True)
    jobs = [prepare(path, {**given, **point}, settings, _label(path.stem, point)) for point in _points(over)]
    if len({job.digest for job in jobs}) < len(jobs):
        raise InvalidParameter("a value of --over is given twice: every point of the grid must differ from the others")
    console = Console()

    def ended(outcome: Outcome) -> None:
        page = outcome.run.path / "page.html"
        if outcome.run.notebook.is_file() and not (outcome.reused and page.is_file()):
            export(outcome.run.notebook, page, outcome.run)
        console.ended(outcome, page)

    if engine == "ray":
        ordered = run_on_ray(jobs, settings, workers, gpus, ended)
    else:
        ordered = run_jobs(jobs, settings, workers, console.progress, ended)
    name = f"sweep-{path.stem}-{digest({k: list(v) for k, v in over.items()}, dict(given), length=8)}"
    table = tidy(ordered, list(over))
    csv = write_file(reports_dir() / f"{name}.csv", table.to_csv(index=False))
    if (packed := parquet(table)) is not None:
        write_file(csv.with_suffix(".parquet"), packed)
    page = _write(name, jobs[0], ordered, table, list(over))
    print(f"{len(ordered)} points: {short(csv)} and {short(page)}")
    return all(outcome.ok for outcome in ordered)


def tidy(outcomes: Iterable[Outcome], over: Sequence[str]) -> pd.DataFrame:
    """One row a point and metric: the varied parameters, `metric`, `value`, `low`, `high` (NaN without an interval), `status`, `run`.

    A point without metrics has one row with no metric.
    """
    import pandas as pd

    rows = []
    for outcome in outcomes:
        point = {name: outcome.job.values[name] for name in over}
        end = {"status": outcome.status, "run": f"{outcome.run.path.parent.name}/{outcome.run.path.name}"}
        for metric, value in (outcome.run.read("metrics") or {None: None}).items():
            middle, low, high = value if isinstance(value, list) else (value, None, None)
            rows.append({**point, "metric": metric, "value": middle, "low": low, "high": high, **end})
    return pd.DataFrame(rows).astype({"value": float, "low": float, "high": float})


def _points(over: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    return (dict(zip(over, values, strict=True)) for values in itertools.product(*over.values()))


def _label(stem: str, point: Mapping[str, Any]) -> str:
    return " ".join([stem, *(f"{name}={value}" for name, value in point.items())])


def _write(name: str, job: Job, outcomes: Sequence[Outcome], table: pd.DataFrame, over: Sequence[str]) -> Any:
    """The page: a figure a metric, then the grid as a table."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    from wamlab.plots.sweeps import metric_over_grid

    metrics = [metric for metric in table.metric.dropna().unique()]
    figures = [metric_over_grid(table[table.metric == metric], over, title=metric) for metric in metrics[:MAX_DRAWN]]
    plots = [new_output("display_data", {"application/vnd.plotly.v1+json": f.to_plotly_json()}) for f in figures]
    note = f"<p class='note'>The first {MAX_DRAWN} of {len(metrics)} metrics are drawn; the table has all.</p>"
    fragments = [_grid(outcomes, over, metrics)] + [note] * (len(metrics) > MAX_DRAWN)
    cells = [
        new_markdown_cell(f"# What do {' and '.join(over)} change in {job.path.stem}?"),
        new_code_cell("", outputs=[_plain_figure(plot) for plot in plots]),
        new_code_cell("", outputs=[new_output("display_data", {"text/html": f}) for f in fragments]),
    ]
    return write_page(new_notebook(cells=cells), reports_dir() / f"{name}.html", name).path


def _plain_figure(output: Any) -> Any:
    """With arrays as lists, as a notebook stores them."""
    import json

    from plotly.utils import PlotlyJSONEncoder

    output["data"] = json.loads(json.dumps(output["data"], cls=PlotlyJSONEncoder))
    return output


def _grid(outcomes: Sequence[Outcome], over: Sequence[str], metrics: Sequence[str]) -> str:
    """A row a point: the varied parameters, how it ended, every metric with its interval."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in (*over, "status", *metrics))
    rows = []
    for outcome in outcomes:
        found = outcome.run.read("metrics") or {}
        ended = outcome.status + f": {outcome.message}" * bool(outcome.message)
        cells = [*(outcome.job.values[name] for name in over), ended]
        cells += [number(found[metric]) if metric in found else "–" for metric in metrics]
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
