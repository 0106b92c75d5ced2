"""`wamlab`: a thin shell over the package. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from wamlab.errors import InvalidParameter, UnknownName, WamlabError

#: click's base of errors in the command line itself, wherever this version of typer keeps it.
_USAGE_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    help="The notebook-driven workbench for world-action models of driving.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make and look after datasets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

Preset = Annotated[str | None, typer.Option(help="Sizes and budgets: smoke, quick or paper.")]
Dataset = Annotated[str | None, typer.Option(help="synthetic, nuscenes, or a path.")]
Jobs = Annotated[int, typer.Option(min=1, help="Notebooks at a time; they share the cores.")]
Kernel = Annotated[str | None, typer.Option(help="Another kernel than the one a notebook names.")]
Gateway = Annotated[str, typer.Option(metavar="URL", help="A Jupyter kernel gateway that runs the kernels.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="Longest time one cell may take, in seconds.")]


@data_app.command()
def synth(
    out: Annotated[Path | None, typer.Option(help="Where to write it [default: data/synthetic].")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Number of drives.")] = 160,
    seed: Annotated[int, typer.Option(help="Decides every road, car and cloud.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 means one a core.")] = 0,
    cameras: Annotated[str, typer.Option(help="front, or all: the six of nuScenes.")] = "front",
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="Images at 12 Hz, not only the 2 Hz of the keyframes.")
    ] = False,
    clips: Annotated[
        bool, typer.Option("--clips/--no-clips", help="12 Hz where a clip of 16 images ends: six times a drive.")
    ] = True,
    lidar: Annotated[bool, typer.Option("--lidar", help="A pseudo-lidar at the keyframes, LIDAR_TOP.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Depth images beside the semantic maps.")] = False,
) -> None:
    """Make the embedded dataset: a procedural driving world in the nuScenes format."""
    from wamlab.config import data_dir
    from wamlab.world import camera, synthesize
    from wamlab.world.filming import CLIPS, Sensors

    if cameras not in ("front", "all"):
        raise UnknownName("set of cameras", cameras, ("front", "all"))
    chosen = camera.NUSCENES_CAMERAS if cameras == "all" else (camera.Camera(),)
    sensors = Sensors(chosen, sweeps, lidar, depth, CLIPS if clips else None)
    synthesize(out or data_dir() / "synthetic", num_scenes=scenes, seed=seed, workers=workers, sensors=sensors)


@data_app.command()
def sheet(
    out: Annotated[Path, typer.Argument(help="Where to write the picture, e.g. world.jpg.")],
    seed: Annotated[int, typer.Option(help="Decides which drives are shown.")] = 0,
) -> None:
    """Draw one picture of the procedural world: every look, every turn, every kind of crash test."""
    from wamlab.analysis import showcase
    from wamlab.plots.sheets import contact_sheet
    from wamlab.render import save_image

    frames, labels = showcase.everything(seed)
    save_image(out, contact_sheet(frames, labels, columns=6))


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A model's name, e.g. direct, small-vae or clip-b32.")],
    dataset: Annotated[str, typer.Option(help="synthetic, nuscenes, or a path.")] = "synthetic",
    preset: Annotated[str, typer.Option(help="smoke, quick or paper.")] = "quick",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the preset.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, data order and noise [default: the preset's first].")
    ] = None,
    on_damage: Annotated[str, typer.Option(help="Scenes with damaged images: refuse, or skip them.")] = "refuse",
) -> None:
    """Train one world model, codec or embedded encoder; says at the end where it is and how well it did."""
    overrides = dict(_pair(item) for item in set_ or [])
    from wamlab import training

    trained = training.train(model, dataset, preset, overrides, resume, seed=seed, on_damage=on_damage)
    if training.is_main():
        print(training.outcome(trained))


@app.command()
def ship(
    name: Annotated[str, typer.Argument(help="A set of models, e.g. dit-wam/quick.")],
    dataset: Annotated[str, typer.Option(help="synthetic, nuscenes, or a path.")] = "synthetic",
    out: Annotated[Path | None, typer.Option(help="Where to write it [default: in the package].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoints.")] = False,
) -> None:
    """Train the models that come with the package (hours), and write their weights, card and contact sheet."""
    from wamlab.analysis import shipping
    from wamlab.plots.sheets import contact_sheet
    from wamlab.pretrained import WEIGHTS
    from wamlab.render import save_image

    made = shipping.ship(name, dataset, out or WEIGHTS, resume)
    save_image(made.folder / shipping.SHEET, contact_sheet(made.frames, made.labels, made.columns), quality=70)


@app.command()
def run(
    notebooks: Annotated[list[str], typer.Argument(metavar="NOTEBOOK…", help="Paths, names or numbers (05).")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A parameter; also accepted as: -p NAME VALUE."),
    ] = None,
    preset: Preset = None,
    dataset: Dataset = None,
    jobs: Jobs = 1,
    timeout: Seconds = None,
    kernel: Kernel = None,
    gateway: Gateway = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what completed before; go on with what was cut short.")
    ] = False,
) -> None:
    """Run notebooks headless, each into a run folder with its page."""
    from wamlab.notebooks.job import Settings
    from wamlab.notebooks.report import run_notebooks

    given = _given(parameter, preset, dataset)
    good = run_notebooks(notebooks, given, Settings(timeout, kernel, gateway, resume), jobs)
    raise typer.Exit(0 if good else 1)


@app.command()
def sweep(
    notebook: Annotated[str, typer.Argument(help="A path, name or number (05).")],
    over: Annotated[list[str], typer.Option("--over", metavar="NAME=A,B,…", help="A parameter and its values.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="The same at every point.")
    ] = None,
    preset: Preset = None,
    dataset: Dataset = None,
    jobs: Jobs = 1,
    timeout: Seconds = None,
    kernel: Kernel = None,
    gateway: Gateway = "",
    engine: Annotated[
        str,
        typer.Option(
            help="local, or ray: a Ray cluster (RAY_ADDRESS, else one here), --jobs at a time on each machine."
        ),
    ] = "local",
    gpus: Annotated[
        float | None, typer.Option(min=0, help="Of each point, on Ray [default: 1 where machines have some].")
    ] = None,
) -> None:
    """Run a notebook over a grid of parameters; one table and one page. An interrupted sweep goes on when repeated."""
    from wamlab.notebooks.job import Settings
    from wamlab.notebooks.sweep import sweep as over_grid

    grid = {name: [v for v in values.split(",") if v] for name, values in map(_pair, over)}
    given = _given(parameter, preset, dataset)
    good = over_grid(notebook, grid, given, Settings(timeout, kernel, gateway), jobs, engine, gpus)
    raise typer.Exit(0 if good else 1)


@app.command()
def report(
    preset: Annotated[str, typer.Option(help="Sizes and budgets: smoke, quick or paper.")] = "quick",
    dataset: Annotated[str, typer.Option(help="synthetic, nuscenes, or a path.")] = "synthetic",
    jobs: Jobs = 2,
    timeout: Seconds = None,
    kernel: Kernel = None,
    gateway: Gateway = "",
    pdf: Annotated[bool, typer.Option("--pdf", help="Each page as a PDF, too; needs Chromium.")] = False,
) -> None:
    """Run every notebook that changed, export the pages, write reports/index.html."""
    from wamlab.notebooks.job import Settings
    from wamlab.notebooks.report import report_all

    shared = {"preset": preset, "dataset": dataset}
    raise typer.Exit(0 if report_all(shared, Settings(timeout, kernel, gateway), jobs, pdf) else 1)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN…", help="Folders, or 05/20261231: the newest so named.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write it [default: a name of its own in reports/].")
    ] = None,
) -> None:
    """Write one page with what differs between runs."""
    from wamlab.notebooks.compare import compare as write
    from wamlab.notebooks.console import short

    print(short(write(runs, out).path))


@app.command()
def docs(
    out: Annotated[Path | None, typer.Option(help="Which folder to write to [default: docs/ in reports/].")] = None,
) -> None:
    """Write the documentation as pages: tutorial, how-tos, commands and reference."""
    from wamlab.notebooks.console import short
    from wamlab.notebooks.docs import write_docs

    print(short(write_docs(out)))


@app.command()
def doctor() -> None:
    """Say what is here, and what each missing thing would enable."""
    from wamlab.doctor import describe

    describe()


@app.command()
def lab(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8888, gateway: Gateway = ""
) -> None:
    """Open JupyterLab on the notebooks, with kernels here or on another machine."""
    import shutil
    import socket
    import subprocess

    from wamlab.config import project_root

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise WamlabError(
                f"port {port} is taken; choose another with: wamlab lab --port {port % 65535 + 1}"
            ) from None
    beside = Path(sys.executable).with_name("jupyter-lab")
    jupyter = str(beside) if beside.exists() else shutil.which("jupyter-lab")
    if not jupyter:
        raise WamlabError("jupyter-lab is not installed; run: pip install jupyterlab")
    if gateway:
        from wamlab.notebooks.gateway import kernels

        kernels(gateway)  # raises where none answers
    root = [] if os.name == "nt" or os.geteuid() else ["--allow-root"]
    folder = project_root() / "notebooks"
    command = [jupyter, f"--port={port}", "--ServerApp.port_retries=0", f"--notebook-dir={folder}", *root]
    command += [f"--gateway-url={gateway}"] if gateway else []
    raise typer.Exit(subprocess.run(command).returncode)


def _given(parameter: list[str] | None, preset: str | None, dataset: str | None) -> dict[str, str]:
    shared = {k: v for k, v in (("preset", preset), ("dataset", dataset)) if v is not None}
    return dict(_pair(item) for item in parameter or []) | shared


def _pair(item: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not separator or not key:
        raise InvalidParameter(f"expected NAME=VALUE, got {item!r}")
    return key, value


def _join_pairs(arguments: list[str]) -> list[str]:
    """`-p name value` (papermill's way) as `-p name=value`."""
    joined, rest = [], iter(arguments)
    for argument in rest:
        joined.append(argument)
        if argument in ("-p", "--parameter"):
            name = next(rest, None)
            if name is None:
                break
            if "=" not in name:
                value = next(rest, None)
                if value is None:
                    raise InvalidParameter(f"parameter {name!r} has no value; write: -p {name} VALUE")
                name = f"{name}={value}"
            joined.append(name)
    return joined


def main() -> None:
    """The `wamlab` command: a mistake of the user's is one line and status 2, an interrupt is status 130."""
    # waiting threads sleep instead of spinning: on a busy machine a training step is several times faster (read when torch loads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = app(args=_join_pairs(sys.argv[1:]), prog_name="wamlab", standalone_mode=False)
    except WamlabError as error:
        print(f"wamlab: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except _USAGE_ERROR as error:
        text = error.format_message()
        helps = type(error).__name__ == "NoArgsIsHelpError"
        print(text if helps else f"wamlab: {' '.join(text.split())} (see: wamlab --help)", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
