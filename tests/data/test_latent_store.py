"""The store's promises: right content, one encoding for everybody, nothing lost to a kill, nothing read from a damaged shard."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import segments
import torch
from helpers import MeanCodec, make_dataset

from wamlab.data import open_dataset
from wamlab.data.frames import load_frames
from wamlab.data.latents import LatentStore
from wamlab.data.windows import LatentWindows, collate
from wamlab.errors import ImageDamaged, InvalidParameter, InvalidShape
from wamlab.render import to_model

NAMES = ("scene-0001", "scene-0002", "scene-0003")

#: A process that fills the store slowly, says which scene it encodes, and can be killed in the middle of one.
FILL = """
import sys, time
from helpers import MeanCodec
from wamlab.data import open_dataset
from wamlab.data.latents import LatentStore

class Slow(MeanCodec):
    def encode(self, frames):
        print("encoding", flush=True)
        time.sleep(float(sys.argv[3]))
        return super().encode(frames)

dataset = open_dataset(sys.argv[1])
store = LatentStore(dataset, Slow(), 32, root=sys.argv[2])
scenes = dataset.scenes()
print("ready", flush=True)
sys.stdin.readline()
store.fill(scenes, progress=False)
"""


def filler(dataset_root: Path, root: Path, seconds: float) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-c", FILL, str(dataset_root), str(root), str(seconds)]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start_together(*processes: subprocess.Popen) -> None:
    """Let them go once all are ready."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


class Counting(MeanCodec):
    """Counts the frames that it encodes."""

    def __init__(self) -> None:
        self.frames = 0

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        self.frames += len(frames)
        return super().encode(frames)


def test_content_is_the_codec_s(dataset, tmp_path):
    store = LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    store.fill(dataset.scenes(), progress=False)
    scene = dataset.scene("scene-0002")
    expected = MeanCodec().encode(to_model(load_frames(scene, range(len(scene)), 32)))
    torch.testing.assert_close(store.read("scene-0002"), expected, rtol=0, atol=0)
    assert store.read("scene-0002").shape == (12, 3, 4, 4)


def test_encoded_once(dataset, tmp_path):
    codec = Counting()
    store = LatentStore(dataset, codec, 32, root=tmp_path)
    store.read("scene-0001")
    assert codec.frames == 12
    store.fill(dataset.scenes(), progress=False)
    LatentStore(dataset, codec, 32, root=tmp_path).fill(dataset.scenes(), progress=False)
    assert codec.frames == 36


def test_key_follows_what_decides_the_latents(dataset, tmp_path):
    class Other(MeanCodec):
        digest = "1" * 8

    other_data = open_dataset(make_dataset(tmp_path / "data", {"scene-0001": "train"}, frames=3))
    stores = [
        LatentStore(dataset, MeanCodec(), 32),
        LatentStore(dataset, Other(), 32),
        LatentStore(dataset, MeanCodec(), 64),
        LatentStore(dataset, MeanCodec(), 32, dtype=torch.float16),
        LatentStore(other_data, MeanCodec(), 32),
    ]
    assert len({store.key for store in stores}) == len({store.folder for store in stores}) == 5
    assert stores[0].key == LatentStore(dataset, MeanCodec(), 32, root=tmp_path).key
    with pytest.raises(InvalidShape, match="resolution 30 is not a multiple of 8"):
        LatentStore(dataset, MeanCodec(), 30)


def test_half_precision_and_indices_keep_their_type(dataset, tmp_path):
    class Indices(MeanCodec):
        digest = "2" * 8

        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            return super().encode(frames).mul(100).to(torch.int32)

    assert (
        LatentStore(dataset, MeanCodec(), 32, tmp_path, dtype=torch.float16).read("scene-0001").dtype == torch.float16
    )
    assert LatentStore(dataset, Indices(), 32, tmp_path).read("scene-0001").dtype == torch.int32


def test_a_copy_for_another_process_carries_no_latents(dataset, tmp_path):
    store = LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    latents = store.read("scene-0001")
    copy = pickle.loads(pickle.dumps(store))
    assert copy._open == {}
    torch.testing.assert_close(copy.read("scene-0001"), latents)


@pytest.mark.parametrize("where", ["start", "header", "data", "end", "cut", "empty"])
def test_a_damaged_shard_is_named_and_rebuilt(dataset, tmp_path, where):
    expected = LatentStore(dataset, MeanCodec(), 32, root=tmp_path).read("scene-0001").clone()
    path = LatentStore(dataset, MeanCodec(), 32, root=tmp_path).path("scene-0001")
    content = bytearray(path.read_bytes())
    place = {"start": 2, "header": 40, "data": len(content) // 2, "end": len(content) - 1}
    if where in place:
        content[place[where]] ^= 0x10
    path.write_bytes({"cut": content[:-7], "empty": b""}.get(where, bytes(content)))
    with pytest.warns(UserWarning, match="damaged latents .*scene-0001.safetensors"):
        found = LatentStore(dataset, MeanCodec(), 32, root=tmp_path).read("scene-0001")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentStore(dataset, MeanCodec(), 32, root=tmp_path).read("scene-0001")


def test_a_shard_in_another_s_place_is_not_read(dataset, tmp_path):
    store = LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    store.fill(dataset.scenes(), progress=False)
    store.path("scene-0001").write_bytes(store.path("scene-0002").read_bytes())
    fresh = LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    with pytest.warns(UserWarning, match="damaged latents .*scene-0001"):
        assert not torch.equal(fresh.read("scene-0001"), fresh.read("scene-0002"))


def test_one_truncated_image_does_not_lose_the_rest(tmp_path):
    data = open_dataset(make_dataset(tmp_path / "data", dict.fromkeys(NAMES, "train"), frames=6))
    image = data.scene("scene-0002").image_paths[4]
    image.write_bytes(image.read_bytes()[:500])
    store = LatentStore(data, MeanCodec(), 32, root=tmp_path)
    with pytest.raises(ImageDamaged, match=f"scene-0002: image .*{image.name} is damaged"):
        store.fill(data.scenes(), progress=False)
    assert store.path("scene-0001").exists(), "what was encoded is kept"
    with pytest.warns(
        UserWarning, match=f"left out 1 scenes with damaged images: scene-0002: image .*{image.name}"
    ) as told:
        assert store.fill(data.scenes(), progress=False, on_damage="skip") == {"scene-0002"}
    assert len(told) == 1
    assert [store.path(name).exists() for name in NAMES] == [True, False, True]
    with pytest.raises(ImageDamaged, match="scene-0002"):
        store.read("scene-0002")

    with pytest.raises(ImageDamaged, match="scene-0002"):
        LatentWindows(data.scenes(), store, 1, 2)
    with pytest.warns(UserWarning, match="left out 1 scenes"):
        windows = LatentWindows(data.scenes(), store, 1, 2, on_damage="skip")
    assert {name for name, _ in windows.index} == {"scene-0001", "scene-0003"} and len(windows) == 2 * 4
    with pytest.warns(UserWarning), pytest.raises(ImageDamaged, match="no window is left: images of scene-0002 are"):
        LatentWindows([data.scene("scene-0002")], store, 1, 2, on_damage="skip")
    with pytest.raises(InvalidParameter, match="on_damage must be one of refuse, skip, not 'ignore'"):
        store.fill([], on_damage="ignore")


def test_a_video_is_encoded_as_its_frames(tmp_path):
    segments.write_segment(tmp_path, segments.made_arrays())
    data = open_dataset(tmp_path)
    scene = data.scenes()[0]
    store = LatentStore(data, MeanCodec(), 32, root=tmp_path / "latents")
    expected = MeanCodec().encode(to_model(load_frames(scene, range(len(scene)), 32)))
    torch.testing.assert_close(store.read(scene.name), expected, rtol=0, atol=0)
    batch = collate([LatentWindows([scene], store, 2, 3)[0]])
    assert batch.context.shape == (1, 2, 3, 4, 4) and batch.scenes == (scene.name,)


def test_killed_by_force_and_resumed(dataset, dataset_root, tmp_path):
    process = filler(dataset_root, tmp_path, 0.3)
    start_together(process)
    assert [process.stdout.readline() for _ in range(2)] == ["encoding\n"] * 2  # now in the middle of the second scene
    process.send_signal(signal.SIGKILL)
    process.wait()
    codec = Counting()
    store = LatentStore(dataset, codec, 32, root=tmp_path)
    assert [store.path(name).exists() for name in NAMES] == [True, False, False]
    store.fill(dataset.scenes(), progress=False)
    assert codec.frames == 24, "the first scene is kept"
    reference = LatentStore(dataset, MeanCodec(), 32, root=tmp_path / "reference")
    for name in NAMES:
        torch.testing.assert_close(store.read(name), reference.read(name), rtol=0, atol=0)


def test_two_processes_share_the_work(dataset, dataset_root, tmp_path):
    both = [filler(dataset_root, tmp_path, 0.3) for _ in range(2)]
    start_together(*both)
    counts = [process.communicate()[0].count("encoding") for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(counts) == 3 and min(counts) >= 1, "each scene once, and nobody idle"
    reference = LatentStore(dataset, MeanCodec(), 32, root=tmp_path / "reference")
    store = LatentStore(dataset, Counting(), 32, root=tmp_path)
    for name in NAMES:
        torch.testing.assert_close(store.read(name), reference.read(name), rtol=0, atol=0)
    assert store.codec.frames == 0 and not list(store.folder.glob("*.part"))
