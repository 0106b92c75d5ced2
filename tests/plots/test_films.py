"""Films of futures side by side: what stands where, how the moment moves, what cannot be filmed; and how one is shown and kept."""

import base64
import io
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from wamlab.errors import InvalidShape
from wamlab.notebooks import collect
from wamlab.notebooks.show import Film
from wamlab.plots.films import side_by_side
from wamlab.plots.style import row_styles


def scene(names=("truth", "direct", "jump"), frames=4, side=31):
    rng = np.random.default_rng(0)
    rows = {name: rng.integers(0, 256, (frames, side, side, 3), np.uint8) for name in names}
    actions = np.stack([np.linspace(-1, 1, frames - 1), np.zeros(frames - 1), np.full(frames - 1, 8.0)], 1)
    return {"name": "scene-0001", "rows": rows, "actions": actions, "times_s": np.arange(frames) * 0.5}


def holds(picture, frame):
    """Where the frame's pixels stand in the picture: how often."""
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], frame.shape[:2])
    return int((windows == frame[..., 0]).all((-2, -1)).sum())


def test_each_row_stands_in_each_frame_once():
    given = scene()
    film = side_by_side(given, row_styles(given["rows"]), columns=2)
    assert film.dtype == np.uint8 and len(film) == 4
    for t in range(4):
        assert all(holds(film[t], frames[t]) == 1 for frames in given["rows"].values())
    still = {**given, "rows": {name: frames[:1].repeat(4, 0) for name, frames in given["rows"].items()}}
    parts = side_by_side(still, columns=2)
    changed = (parts[1] != parts[2]).any((1, 2))
    assert changed.any() and not changed[: 2 * 31].any(), (
        "the time and the marks on the actions move on below the pictures"
    )


def test_without_actions_it_is_pictures_and_the_time():
    given = scene()
    del given["actions"]
    assert side_by_side(given).shape[1] < side_by_side(scene()).shape[1]


def test_rows_of_several_shapes_are_named():
    given = scene()
    given["rows"]["jump"] = given["rows"]["jump"][:2]
    with pytest.raises(InvalidShape, match=r"\(2, 31, 31, 3\), \(4, 31, 31, 3\)"):
        side_by_side(given)
    with pytest.raises(InvalidShape, match="none"):
        side_by_side({"rows": {}})


def test_a_film_is_shown_and_kept_as_both_kinds():
    frames = side_by_side(scene())
    bundle = Film(frames, "truth & others", fps=4.0)._repr_mimebundle_()
    assert "data:video/mp4;base64," in bundle["text/html"] and "truth &amp; others" in bundle["text/html"]
    folder, files = collect._files(bundle)
    assert folder == "figures" and set(files) == {"mp4", "gif"}
    with av.open(io.BytesIO(files["mp4"])) as container:
        shown = list(container.decode(video=0))
    even = tuple(n + n % 2 for n in frames.shape[1:3])
    assert len(shown) == 4 and (shown[0].height, shown[0].width) == even
    with Image.open(io.BytesIO(files["gif"])) as gif:
        assert (gif.n_frames, gif.size) == (4, frames.shape[2:0:-1])


def test_the_run_folder_gets_its_files(tmp_path, monkeypatch):
    bundle = Film(side_by_side(scene()), "all")._repr_mimebundle_()
    monkeypatch.setattr(collect, "displayed", lambda nb: [("Make a film", bundle)])
    (tmp_path / "executed.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    run = SimpleNamespace(path=tmp_path, notebook=tmp_path / "executed.ipynb", write=lambda *a: None)
    collect.collect(run)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["01-make-a-film.gif", "01-make-a-film.mp4"]
    assert (tmp_path / "figures" / "01-make-a-film.mp4").read_bytes() == base64.b64decode(bundle["video/mp4"])
