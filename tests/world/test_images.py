"""Our PNGs are read back by others, pixel for pixel."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from wamlab.world import images
from wamlab.world.primitives import SEMANTIC_COLOURS, Semantic


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (700, 900)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png_is_read_back_by_two_libraries(shape, kind):
    image = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    content = images.png(image)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), image)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), image)


@pytest.mark.parametrize("enlarge", [1, 2, 5])
def test_a_mask_is_enlarged_and_read_as_0_and_255(enlarge):
    mask = np.random.default_rng(1).integers(0, 2, (30, 17), np.uint8) * 255
    content = images.mask_png(mask, enlarge)
    expected = np.kron(mask, np.ones((enlarge, enlarge), np.uint8))
    got = np.array(Image.open(io.BytesIO(content)))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), expected)


def test_semantic_png_has_ids_and_shows_colours():
    labels = np.arange(len(Semantic), dtype=np.uint8).reshape(2, -1)
    picture = Image.open(io.BytesIO(images.semantic_png(labels)))
    np.testing.assert_array_equal(np.array(picture), labels)
    assert picture.mode == "P"
    shown = np.array(picture.convert("RGB")).reshape(-1, 3)
    assert [tuple(c) for c in shown] == [SEMANTIC_COLOURS[k] for k in Semantic]


def test_depth_png_is_in_centimetres_and_the_sky_is_zero():
    depth = np.array([[0.2, 12.344, 655.34, 655.4, np.inf]], np.float32)
    got = np.array(Image.open(io.BytesIO(images.depth_png(depth))))
    assert got.tolist() == [[20, 1234, 65534, 0, 0]]
