"""Semantic maps and depth: cropped as the frames, nearest values, metres; what is missing or damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import HEIGHT, WIDTH, make_dataset
from PIL import Image

from wamlab.data import open_dataset
from wamlab.data.frames import load_frames
from wamlab.data.labels import load_depth, load_semantic
from wamlab.errors import HorizonTooLong, ImageDamaged, LabelsMissing
from wamlab.types import Scene


def write_labels(scene: Scene, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Random labels as the writer stores them. Returns classes (T, H, W) and depth (T, H, W) in metres, infinite where there is sky."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 20, (len(scene), HEIGHT, WIDTH), np.uint8)
    centimetres = rng.integers(0, 65_536, (len(scene), HEIGHT, WIDTH)).astype(np.uint16)
    centimetres[:, :20] = 0
    for image, semantic, depth in zip(scene.image_paths, classes, centimetres, strict=True):
        for kind, pixels in (("semantic", Image.fromarray(semantic, "P")), ("depth", Image.fromarray(depth))):
            path = root / "labels" / kind / "CAM_FRONT" / f"{image.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "semantic":
                pixels.putpalette(bytes(range(256)) * 3)
            pixels.save(path)
    return classes, np.where(centimetres == 0, np.inf, centimetres / 100)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return open_dataset(make_dataset(tmp_path, {"scene-0001": "train"}, frames=3)).scenes()[0]


def test_as_stored_in_the_crop_of_the_frames(scene, tmp_path):
    classes, depth_m = write_labels(scene, tmp_path)
    crop = slice((WIDTH - HEIGHT) // 2, (WIDTH + HEIGHT) // 2)
    semantic, depth = load_semantic(scene, [2, 0], HEIGHT), load_depth(scene, [2, 0], HEIGHT)
    assert (semantic.dtype, depth.dtype, semantic.shape) == (np.uint8, np.float32, (2, HEIGHT, HEIGHT))
    np.testing.assert_array_equal(semantic, classes[[2, 0], :, crop])
    np.testing.assert_allclose(depth, depth_m[[2, 0], :, crop], rtol=1e-6)
    assert np.isinf(depth[:, :20]).all() and np.isfinite(depth).any()


@pytest.mark.parametrize("resolution", [1, 16, 48, 100])
def test_values_are_the_nearest_and_never_mixed(scene, tmp_path, resolution):
    """Maps of each pixel's own column and row say where a value came from."""
    centres = (np.arange(resolution) + 0.5) * HEIGHT / resolution
    for t, (across, first) in enumerate(((True, (WIDTH - HEIGHT) // 2), (False, 0))):
        numbers = np.broadcast_to(np.arange(WIDTH), (HEIGHT, WIDTH)) if across else np.indices((HEIGHT, WIDTH))[0]
        path = tmp_path / "labels" / "semantic" / "CAM_FRONT" / f"{scene.image_paths[t].stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.astype(np.uint8)).save(path)
        found = load_semantic(scene, [t], resolution)[0]
        assert (found == (found[:1] if across else found[:, :1])).all()
        line = found[0] if across else found[:, 0]
        assert np.abs(line - first + 0.5 - centres).max() <= 0.5
    assert load_semantic(scene, [], resolution).shape == (0, resolution, resolution)


def test_a_label_lies_on_its_pixel(tmp_path):
    """A mark in the picture and in its map come out at one place."""
    frames = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, 16:32, 40:56] = 255
    scene = open_dataset(make_dataset(tmp_path, {"scene-0001": "train"}, frames=3)).scenes()[0]
    Image.fromarray(frames[0]).save(scene.image_paths[0], quality=95)
    path = tmp_path / "labels" / "semantic" / "CAM_FRONT" / f"{scene.image_paths[0].stem}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(frames[0, :, :, 0] // 255).save(path)
    bright = load_frames(scene, [0], 32)[0].float().mean(0).numpy() > 128
    np.testing.assert_array_equal(bright, load_semantic(scene, [0], 32)[0] == 1)


def test_a_dataset_without_labels(scene):
    with pytest.raises(LabelsMissing, match="scene-0001 has no semantic labels, no file .*png: .*`wamlab data synth`"):
        load_semantic(scene, [0], 8)
    with pytest.raises(LabelsMissing, match="scene-0001 has no depth labels, .*`wamlab data synth --depth`"):
        load_depth(scene, [0], 8)
    with pytest.raises(HorizonTooLong, match="no frame 3 in scene-0001"):
        load_depth(scene, [3], 8)


def test_damaged_labels(scene, tmp_path):
    write_labels(scene, tmp_path)
    path = tmp_path / "labels" / "depth" / "CAM_FRONT" / f"{scene.image_paths[1].stem}.png"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ImageDamaged, match=f"scene-0001: depth map .*{path.name} is damaged"):
        load_depth(scene, [0, 1], 8)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(ImageDamaged, match="its mode is RGB and not I;16"):
        load_depth(scene, [1], 8)
