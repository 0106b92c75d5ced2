"""Embeddings keep the latent store's promises, and their key knows the encoder, its precision and the pace of its clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_dataset

from wamlab.data import open_dataset
from wamlab.data.clips import Film, film_of, load_clips
from wamlab.data.embeddings import EmbeddingStore
from wamlab.data.frames import load_frames, remembering
from wamlab.data.lead import lead_boxes
from wamlab.encoders import load_encoder
from wamlab.errors import InvalidParameter, InvalidShape, LabelsMissing, UnknownName


@pytest.fixture(scope="module")
def frames_encoder():
    return load_encoder("vit-s16/random")


@pytest.fixture(scope="module")
def clips_encoder():
    return load_encoder("vjepa2-rep64/random")


def test_frames_are_embedded_once_and_found_again(dataset, frames_encoder, tmp_path, monkeypatch):
    store = EmbeddingStore(dataset, frames_encoder, root=tmp_path)
    store.fill(dataset.scenes(), progress=False)
    scene = dataset.scene("scene-0002")
    want = frames_encoder.encode(load_frames(scene, range(len(scene)), 128))
    assert store.resolution == frames_encoder.resolution == 128 and store.read("scene-0002").shape == (12, 384)
    torch.testing.assert_close(store.read("scene-0002"), want, rtol=0, atol=1e-5)
    monkeypatch.setattr(frames_encoder, "encode", None)
    again = EmbeddingStore(dataset, frames_encoder, root=tmp_path)
    again.fill(dataset.scenes(), progress=False)
    assert torch.equal(again.read("scene-0002"), store.read("scene-0002"))


def test_clips_end_with_their_frame(dataset, clips_encoder, tmp_path):
    store = EmbeddingStore(dataset, clips_encoder, root=tmp_path)
    scene = dataset.scene("scene-0001")
    clips = load_clips(scene, film_of(dataset, scene), [0, 7], clips_encoder.resolution)
    torch.testing.assert_close(store.read("scene-0001")[[0, 7]], clips_encoder.encode(clips), rtol=0, atol=1e-5)
    assert store.read("scene-0001").shape == (12, 384)


def test_a_scene_of_one_frame(frames_encoder, clips_encoder, tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "data", {"scene-0001": "train"}, frames=1))
    for encoder in (frames_encoder, clips_encoder):
        assert EmbeddingStore(dataset, encoder, root=tmp_path).read("scene-0001").shape == (1, 384)


def test_a_damaged_shard_is_named_and_rebuilt(dataset, frames_encoder, tmp_path):
    expected = EmbeddingStore(dataset, frames_encoder, root=tmp_path).read("scene-0001").clone()
    path = EmbeddingStore(dataset, frames_encoder, root=tmp_path).path("scene-0001")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged embeddings .*scene-0001.safetensors"):
        found = EmbeddingStore(dataset, frames_encoder, root=tmp_path).read("scene-0001")
    torch.testing.assert_close(found, expected)


def test_the_key_follows_what_decides_the_embeddings(dataset, frames_encoder, clips_encoder):
    stores = [
        EmbeddingStore(dataset, frames_encoder),
        EmbeddingStore(dataset, load_encoder("vit-s16/random-1")),
        EmbeddingStore(dataset, load_encoder("vit-s16/random", precision="bfloat16")),
        EmbeddingStore(dataset, frames_encoder, resolution=64),
        EmbeddingStore(dataset, frames_encoder, dtype=torch.float16),
        EmbeddingStore(dataset, load_encoder("vjepa2-rep1/random")),
        EmbeddingStore(dataset, clips_encoder),
        EmbeddingStore(dataset, clips_encoder, rate_hz=12.0),
    ]
    assert len({store.key for store in stores}) == len({store.folder for store in stores}) == len(stores)
    assert EmbeddingStore(dataset, frames_encoder, rate_hz=12.0).key == stores[0].key, "frames have no pace"
    assert stores[0].folder.name.startswith("synthetic-vit-s16_random-128-")


def test_an_impossible_resolution_is_named(dataset, frames_encoder):
    with pytest.raises(InvalidShape, match="resolution must be a number of pixels, not -1"):
        EmbeddingStore(dataset, frames_encoder, resolution=-1)


def test_some_frames_alone(dataset, frames_encoder, tmp_path):
    whole, some = (EmbeddingStore(dataset, frames_encoder, root=tmp_path, every=every) for every in (1, 5))
    assert whole.folder != some.folder
    torch.testing.assert_close(some.read("scene-0001"), whole.read("scene-0001")[[1, 6, 11]], rtol=0, atol=1e-5)
    pairs = EmbeddingStore(dataset, frames_encoder, root=tmp_path, every=5, run=2)
    assert pairs.folder != some.folder and pairs.taken(dataset.scene("scene-0001")) == [0, 1, 5, 6, 10, 11]
    torch.testing.assert_close(
        pairs.read("scene-0001"), whole.read("scene-0001")[[0, 1, 5, 6, 10, 11]], rtol=0, atol=1e-5
    )
    for every, run in ((0, 1), (3, 4), (3, 0)):
        with pytest.raises(InvalidParameter, match=f"at most that, not {every} and {run}"):
            EmbeddingStore(dataset, frames_encoder, every=every, run=run)


def test_what_was_read_is_remembered_for_the_next_store(dataset, frames_encoder, tmp_path, monkeypatch):
    read = []

    def count(scene, indices, resolution):
        read.append((scene.name, resolution))
        return load_frames(scene, indices, resolution)

    monkeypatch.setattr("wamlab.data.frames.load_frames", count)
    load = remembering(2)
    plain, dark, small = (
        EmbeddingStore(dataset, frames_encoder, resolution, tmp_path, perturbation=p, load=load)
        for resolution, p in ((128, "none"), (128, "dark"), (64, "none"))
    )
    alone = EmbeddingStore(dataset, frames_encoder, root=tmp_path / "alone", perturbation="dark")
    found = [store.read("scene-0001") for store in (plain, dark, small)]
    assert read == [("scene-0001", 128), ("scene-0001", 64)]
    assert torch.equal(found[1], alone.read("scene-0001")) and not torch.equal(found[0], found[1])
    plain.read("scene-0002")
    assert torch.equal(load(dataset.scene("scene-0002"), [3], 32), load_frames(dataset.scene("scene-0002"), [3], 32))
    load(dataset.scene("scene-0001"), range(12), 128)
    assert read[2:] == [("scene-0002", 128), ("scene-0002", 32), ("scene-0001", 128)], "no more than two are kept"


def test_perturbed_frames_are_kept_apart_and_are_the_same_each_time(dataset, frames_encoder, tmp_path):
    plain, noisy = (
        EmbeddingStore(dataset, frames_encoder, root=tmp_path / "a", perturbation=p) for p in ("none", "noise")
    )
    again = EmbeddingStore(dataset, frames_encoder, root=tmp_path / "b", perturbation="noise")
    assert not torch.allclose(noisy.read("scene-0001"), plain.read("scene-0001"), atol=1e-3)
    assert torch.equal(noisy.read("scene-0001"), again.read("scene-0001"))
    scene = dataset.scene("scene-0001")
    assert torch.equal(plain.inputs(scene, [3]), load_frames(scene, [3], 128))
    with pytest.raises(UnknownName, match="perturbation 'fire'"):
        EmbeddingStore(dataset, frames_encoder, perturbation="fire")


def test_the_vehicle_ahead_is_hidden_where_it_is(dataset, frames_encoder, clips_encoder):
    """The helper's drives follow one car, annotated from the second keyframe on; sweeps have interpolated boxes."""
    scene, film = dataset.scene("scene-0001"), film_of(dataset, dataset.scene("scene-0001"))
    boxes = lead_boxes(dataset, scene, film, [0, 5], 128)
    assert np.isnan(boxes[0]).all() and np.isfinite(boxes[1]).all()
    left, top, right, bottom = boxes[1]
    assert 0 <= left < right <= 128 and 0 <= top < bottom <= 128
    plain, hidden = (EmbeddingStore(dataset, frames_encoder, perturbation=p) for p in ("none", "lead vehicle"))
    before, after = (store.inputs(scene, [0, 5]) for store in (plain, hidden))
    assert torch.equal(before[0], after[0])
    changed = (before[1] != after[1]).any(0).nonzero()
    assert (
        changed.min(0).values.tolist() >= [int(top), int(left)] and not after[1, :, int(top) + 1, int(left) + 1].any()
    )
    assert changed[:, 0].max() < bottom and changed[:, 1].max() < right
    clips = EmbeddingStore(dataset, clips_encoder, resolution=128, perturbation="lead vehicle").inputs(scene, [5])
    assert torch.equal(clips[0, -1], after[1]) and clips.shape == (1, 16, 3, 128, 128)


def test_without_annotations_no_vehicle_is_ahead(dataset):
    scene = dataset.scene("scene-0001")
    bare = Film(scene.timestamps_s, scene.image_paths, np.arange(len(scene)))
    with pytest.raises(
        LabelsMissing, match="scene-0001 of synthetic has no annotated vehicles: take `lead vehicle` out"
    ):
        lead_boxes(dataset, scene, bare, [0], 64)
