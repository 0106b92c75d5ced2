"""Names, folders, the hub's cache, the embedded ones and their random twins; and what a user is told when weights are not to be had."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoder_folders import make_clips, save_all, smooth_frames
from safetensors.torch import load_file, save_file

from wamlab import encoders
from wamlab.encoders import ENCODERS, load_encoder, save_backbone
from wamlab.encoders.vit import SmallVit, Vit
from wamlab.encoders.vjepa2 import SmallVJepa2
from wamlab.errors import CheckpointMismatch, InvalidParameter, UnknownName, WeightsMissing


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_all(tmp_path_factory.mktemp("encoders"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_in_cache(cache: Path, repo: str, folder: Path, subfolder: str = "") -> None:
    """As the hub's client stores a download."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, root / "snapshots" / ("0" * 40) / subfolder)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_real_name_finds_the_hub_s_cache(name, folders, cache):
    put_in_cache(cache, ENCODERS[name].source, folders[name], "vqvae" if name == "vq" else "")
    by_name, by_folder = load_encoder(name), load_encoder(f"{name}={folders[name]}")
    assert by_name.name == name
    if name == "vq":  # the hub's has no processor file beside the weights, so the published numbers hold
        assert by_name.preprocess == encoders.Vq.PREPROCESS
    else:
        assert by_name.digest == by_folder.digest and by_name.preprocess == by_folder.preprocess
    by_source = load_encoder(ENCODERS[name].source)
    assert by_source.name == name.replace("rep1", "rep64")


@pytest.mark.parametrize("name", ENCODERS)
def test_out_of_reach_names_the_three_ways_out(name, cache):
    with pytest.raises(WeightsMissing) as caught:
        load_encoder(name)
    message = str(caught.value)
    assert f"weights of {name} ({ENCODERS[name].source})" in message and str(cache) in message
    assert f"from_pretrained('{ENCODERS[name].source}'" in message and "save_pretrained('weights')" in message
    assert f"{name}=path/to/weights" in message and f"{name}/embedded" in message


def test_the_download_command_of_the_message_is_one_that_runs(folders, tmp_path, cache, monkeypatch):
    put_in_cache(cache, "facebook/dinov2-small", folders["dinov2-s14"])
    shutil.rmtree(cache / "models--facebook--dinov2-small" / "refs")
    with pytest.raises(WeightsMissing) as caught:
        load_encoder("dinov2-s14")
    code = (
        str(caught.value)
        .split('python -c "')[1]
        .split('"`')[0]
        .replace("facebook/dinov2-small", str(folders["dinov2-s14"]))
    )
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert load_encoder("dinov2-s14=weights").digest


@pytest.mark.parametrize("name", ENCODERS)
def test_a_folder_says_what_it_is(name, folders):
    encoder = load_encoder(folders[name])
    assert encoder.name == name.replace("rep1", "rep64") and len(encoder.digest) == 64
    assert encoder.digest == load_encoder(str(folders[name])).digest


def test_one_checkpoint_is_two_encoders(folders):
    frame, clip = (load_encoder(f"{name}={folders['vjepa2-rep64']}") for name in ("vjepa2-rep1", "vjepa2-rep64"))
    assert (frame.num_frames, clip.num_frames) == (1, 16) and frame.digest != clip.digest
    frames = smooth_frames(2)
    assert not torch.allclose(frame.encode(frames), clip.encode(frames[:, None]), atol=1e-4)


def test_what_decides_the_embeddings_decides_the_digest(folders, tmp_path):
    digest = load_encoder(folders["clip-b32"]).digest
    shutil.copytree(folders["clip-b32"], tmp_path / "copy")
    assert load_encoder(tmp_path / "copy").digest == digest
    numbers = json.loads((tmp_path / "copy" / "preprocessor_config.json").read_text())
    (tmp_path / "copy" / "preprocessor_config.json").write_text(json.dumps(numbers | {"resample": 2}))
    assert load_encoder(tmp_path / "copy").digest != digest
    shutil.copy(folders["clip-b32"] / "preprocessor_config.json", tmp_path / "copy")
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1
    save_file(weights, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    assert load_encoder(tmp_path / "copy").digest != digest


def test_text_and_predictor_do_not_count(folders, tmp_path):
    """Only what the embedding needs is read, so a checkpoint without the rest is the same encoder."""
    for name, kept in (("clip-b32", "vi"), ("vjepa2-rep64", "encoder.")):
        folder = tmp_path / name
        shutil.copytree(folders[name], folder)
        weights = {key: v for key, v in load_file(folder / "model.safetensors").items() if key.startswith(kept)}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        assert load_encoder(folder).digest == load_encoder(folders[name]).digest


def test_pickled_weights_are_not_read(folders, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(folders["dinov2-s14"], folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"has pytorch_model.bin, but no .safetensors, and nothing else is read"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["vit-s16", "vq"])
def test_a_damaged_folder_is_named(name, folders, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(folders[name], folder)
    (weights,) = folder.glob("*.safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointMismatch, match=f"damaged is damaged, or does not fit {name}"):
        load_encoder(folder)
    tensors = load_file(next(folders[name].glob("*.safetensors")))
    save_file({k: v for k, v in list(tensors.items())[3:]}, weights, {"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=r"lacks \d+ weights of"):
        load_encoder(folder)
    save_file({k: torch.zeros(2, *v.shape) for k, v in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=r"does not fit its config.json: .* is \(2, .*\), not \("):
        load_encoder(folder)


def test_damaged_processor_and_configuration_are_named(folders, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(folders["clip-b32"], folder)
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointMismatch, match="damaged is damaged, or does not fit clip-b32"):
        load_encoder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointMismatch, match="has a model of type None, and clip-b32 reads"):
        load_encoder(f"clip-b32={folder}")


def test_a_processor_for_another_size_than_the_model_s_is_named(folders, tmp_path):
    """V-JEPA 2 counts positions by its configured size; at another one they would be wrong without a word."""
    folder = tmp_path / "odd"
    shutil.copytree(folders["vjepa2-rep64"], folder)
    numbers = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(numbers))
    with pytest.raises(CheckpointMismatch, match="cuts 64 pixels, but the model is for 48"):
        load_encoder(folder)


def test_damage_in_the_cache_is_named(folders, cache, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(folders["dinov2-s14"], folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    put_in_cache(cache, "facebook/dinov2-small", folder)
    with pytest.raises(CheckpointMismatch, match="what the cache has of facebook/dinov2-small is damaged"):
        load_encoder("dinov2-s14")


def test_another_family_s_folder_is_refused(folders, tmp_path):
    with pytest.raises(CheckpointMismatch, match="has a model of type dinov2, and clip-b32 reads clip or clip_vision"):
        load_encoder(f"clip-b32={folders['dinov2-s14']}")
    with pytest.raises(WeightsMissing, match="has no config.json: vit-s16 needs a folder as `save_pretrained` writes"):
        load_encoder(f"vit-s16={tmp_path}")
    with pytest.raises(UnknownName, match="config.json: 'None'; known: .*VQModel.*vjepa2"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("name", ["dinov3", "dinov2-s14/other", "dinov2-s14/random-x", "some/absent/folder", "x=y"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(UnknownName, match=r"unknown encoder '.*'; known: .*NAME/embedded.*dinov2-s14.*vjepa2-rep64"):
        load_encoder(name)


def test_unknown_precision_is_named():
    with pytest.raises(InvalidParameter, match="precision must be one of float32, bfloat16, float16, not 'int8'"):
        load_encoder("vq/random", precision="int8")


def test_random_twins_are_made_by_their_seed():
    before = torch.random.get_rng_state()
    first, again, other = (load_encoder(f"vit-s16/{twin}") for twin in ("random", "random-0", "random-1"))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    assert first.digest == again.digest != other.digest
    assert (first.name, other.name) == ("vit-s16/random", "vit-s16/random-1")
    assert torch.equal(first.encode(smooth_frames()), again.encode(smooth_frames()))


def test_embedded_weights_are_a_folder_in_the_real_layout(tmp_path, monkeypatch):
    from transformers import ViTModel, VJEPA2Model

    monkeypatch.setattr(encoders, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsMissing, match="embedded weights of vit-s16 are not in this copy .* vit-s16/random"):
        load_encoder("vit-s16/embedded")
    torch.manual_seed(3)
    for size, model_class, folder in ((SmallVit(), ViTModel, "vit"), (SmallVJepa2(), VJEPA2Model, "vjepa2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text("a card")
        save_backbone(model_class(size.config()), size.preprocess(), tmp_path / folder)
    encoder, clip = load_encoder("vit-s16/embedded"), load_encoder("vjepa2-rep64/embedded")
    assert encoder.name == "vit-s16/embedded" and encoder.preprocess == SmallVit().preprocess()
    assert load_file(tmp_path / "vit" / "model.safetensors")["layernorm.weight"].dtype == torch.float16
    assert encoder.encode(smooth_frames()).dtype == torch.float32
    assert clip.features(make_clips(1)).shape == (1, 6, 6, 128)
    assert sorted(path.name for path in tmp_path.rglob("*.md")) == ["README.md"] * 2, "cards stay"
    assert not list(tmp_path.glob("*.partial"))


def test_all_embedded_families_fit_twelve_megabytes():
    """As float16, with what is shipped beside the encoders: V-JEPA 2's predictor, the tokenizer's decoder."""
    from transformers import VJEPA2Model

    backbones = [entry.family.small()[0] for name, entry in ENCODERS.items() if not name.startswith("vjepa2")]
    backbones.append(VJEPA2Model(SmallVJepa2().config()))
    count = sum(value.numel() for backbone in backbones for value in backbone.state_dict().values())
    assert 8e6 < 2 * count < 12e6


def test_sizes_are_fields():
    size = replace(SmallVit(), width=64, depth=2)
    from transformers import ViTModel

    encoder = Vit(ViTModel(size.config(), add_pooling_layer=False), size.preprocess(), "small")
    assert encoder.features(smooth_frames(1)).shape == (1, 8, 8, 64)
