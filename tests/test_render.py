import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from wamlab import render
from wamlab.errors import InvalidParameter, InvalidShape


def frames(count=6, height=16, width=24):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_bytes_survive_the_way_to_the_model_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(render.to_uint8(render.to_model(every)), every)
    assert render.to_model(every).min() == -1
    assert render.to_model(every).max() == 1
    assert render.to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_inputs_are_left_as_they_were():
    float_frames = torch.linspace(-1, 1, 8)
    before = float_frames.clone()
    render.to_uint8(float_frames)
    assert torch.equal(float_frames, before)


@pytest.mark.parametrize("name", render.FORMATS)
def test_images(name):
    image = Image.open(io.BytesIO(render.encode_image(frames()[0], name)))
    assert (image.format, image.size) == (name, (24, 16))


def test_a_strip_finds_frame_t_at_its_place():
    shown = frames(100, 4, 400)
    picture = np.array(Image.open(io.BytesIO(render.strip(shown, 100, "PNG"))))
    columns = picture.shape[1] // 400
    assert columns * 400 <= render.WEBP_LIMIT_PX
    for t in (0, 39, 40, 41, 99):
        y, x = t // columns * 4, t % columns * 400
        assert np.array_equal(picture[y : y + 4, x : x + 400], shown[t])


def test_mp4_of_odd_size(tmp_path):
    path = render.save_film(tmp_path / "new" / "drive.mp4", frames(6, 15, 23), fps=2.5)
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        assert float(container.streams.video[0].average_rate) == 2.5
    assert len(decoded) == 6
    assert (decoded[0].width, decoded[0].height) == (24, 16)
    assert [p.name for p in path.parent.iterdir()] == ["drive.mp4"]


def test_mp4_keeps_even_sizes_and_what_is_on_the_frames():
    flat = np.stack([np.full((16, 24, 3), v, np.uint8) for v in (20, 120, 220)])
    with av.open(io.BytesIO(render.encode_film(flat))) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [s.shape for s in shown] == [(16, 24, 3)] * 3
    assert np.abs(np.stack(shown).astype(int) - flat).max() < 6


def test_gif_of_odd_size(tmp_path):
    path = render.save_film(tmp_path / "drive.gif", frames(6, 15, 23), fps=4)
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (6, (23, 15), 250)


@pytest.mark.parametrize("format, fps", [("AVI", 2.0), ("MP4", 0.0)])
def test_films_that_there_are_not(format, fps):
    with pytest.raises(InvalidParameter, match="MP4, GIF"):
        render.encode_film(frames(), format, fps)


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)]
)
def test_wrong_frames_are_named(bad, tmp_path):
    for make in (render.strip, lambda f: render.save_film(tmp_path / "x.mp4", f)):
        with pytest.raises(InvalidShape, match="uint8"):
            make(bad)


def test_unknown_format():
    with pytest.raises(InvalidParameter, match="known: JPEG"):
        render.encode_image(frames()[0], "GIF")
