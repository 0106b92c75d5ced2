"""Both codecs: closed forms, round trips, files, and refusals."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from sklearn.decomposition import PCA

from wamlab.codecs import SmallVae, SmallVaeConfig, load_codec, save_small_vae
from wamlab.errors import CheckpointMismatch, InvalidShape, UnknownName, WeightsMissing

TINY = SmallVaeConfig(width=16, encoder_blocks=1, decoder_blocks=1)


def smooth_frames(n=8, size=32, seed=0):
    """Frames in [-1, 1] with large structures, as pictures have."""
    coarse = torch.rand(n, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def make_codec(config=TINY, frames=None):
    torch.manual_seed(0)
    codec = SmallVae(config).eval()
    codec.fit_pca(smooth_frames() if frames is None else frames)
    return codec


def test_pca_start_reconstructs_as_scikit_learn_does():
    frames = smooth_frames()
    codec = make_codec(frames=frames)
    patches = torch.nn.functional.pixel_unshuffle(frames, 8).movedim(1, -1).flatten(0, -2).numpy()
    pca = PCA(4, svd_solver="full").fit(patches)
    want = ((pca.inverse_transform(pca.transform(patches)) - patches) ** 2).mean()
    reconstructed = codec._decode(codec._encode(frames))
    np.testing.assert_allclose(((reconstructed - frames) ** 2).mean().item(), want, rtol=1e-3)
    std = codec._encode(frames).std(dim=(0, 2, 3))
    torch.testing.assert_close(std, torch.ones(4), atol=1e-2, rtol=0)


def test_encoded_channels_are_standard_and_decode_undoes_it():
    frames = smooth_frames()
    codec = make_codec(frames=frames)
    torch.nn.init.normal_(codec.encoder.net[-1].weight)
    plain = codec._decode(codec._encode(frames)).clamp(-1, 1)
    codec.fit_latents(frames)
    latents = codec.encode(frames)
    assert latents.shape == (8, 4, 4, 4)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(latents), plain, atol=1e-4, rtol=0)


def test_default_size_is_small():
    count = sum(p.numel() for p in SmallVae(SmallVaeConfig()).parameters())
    assert 0.9e6 < count < 1.3e6


def test_loss_improves_on_pca():
    frames, codec = smooth_frames(16), make_codec(frames=smooth_frames(16)).train()
    optimizer = torch.optim.Adam(codec.parameters(), lr=2e-3)
    first = codec.loss(frames, torch.Generator().manual_seed(0))[1]["psnr_db"]
    for step in range(60):
        loss, logs = codec.loss(frames, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["psnr_db"] > first + 1
    assert all(p.grad is not None for p in codec.parameters())


def test_noise_is_the_generators_and_absent_in_evaluation():
    frames, codec = smooth_frames(), make_codec().train()
    losses = [codec.loss(frames, torch.Generator().manual_seed(s))[0].item() for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    codec.eval()
    losses = [codec.loss(frames, torch.Generator().manual_seed(s))[0].item() for s in (0, 1)]
    assert losses[0] == losses[1]


def test_a_small_vae_file_is_all_that_is_needed(tmp_path):
    frames, codec = smooth_frames(), make_codec()
    codec.fit_latents(frames)
    save_small_vae(codec, tmp_path / "codec.safetensors")
    loaded = load_codec(tmp_path / "codec.safetensors")
    assert loaded.config == TINY and len(loaded.digest) == 64 and loaded.digest == codec.digest
    assert torch.equal(loaded.encode(frames), codec.encode(frames))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    loaded.decoder.linear.bias[0] += 1
    save_small_vae(loaded, tmp_path / "other.safetensors")
    assert load_codec(tmp_path / "other.safetensors").digest != codec.digest


def test_damaged_missing_and_unknown_weights_are_named(tmp_path):
    save_small_vae(make_codec(), tmp_path / "codec.safetensors")
    data = (tmp_path / "codec.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointMismatch, match="cut.safetensors is damaged"):
        load_codec(tmp_path / "cut.safetensors")
    with pytest.raises(WeightsMissing, match="wamlab train small-vae"):
        load_codec(tmp_path / "absent.safetensors")
    with pytest.raises(UnknownName, match="unknown codec 'sd_vae'; known: .*sd-vae, small-vae"):
        load_codec("sd_vae")


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory):
    """A tiny random autoencoder in the layout of the real one."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
    folder = tmp_path_factory.mktemp("sd-vae")
    vae.save_pretrained(folder)
    return folder


def test_sd_vae_is_the_scaled_posterior_mean(sd_folder):
    codec, vae = load_codec(sd_folder), AutoencoderKL.from_pretrained(sd_folder)
    frames = smooth_frames(10, 64)
    assert (codec.name, codec.channels, codec.downsample) == ("sd-vae", 4, 8)
    with torch.no_grad():
        want = vae.encode(frames).latent_dist.mean * 0.18215
        torch.testing.assert_close(codec.encode(frames), want, atol=1e-5, rtol=1e-4)
        decoded = vae.decode(want / 0.18215).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(want), decoded, atol=1e-5, rtol=1e-4)
    assert codec.digest == load_codec(str(sd_folder)).digest


def test_sd_vae_out_of_reach_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match=r"stabilityai/sd-vae-ft-mse .*cache .*give the path.*small-vae"):
        load_codec("sd-vae")
    with pytest.raises(WeightsMissing, match="config.json"):
        load_codec(tmp_path)


@pytest.mark.parametrize("kind", ["small", "sd"])
def test_wrong_shapes_are_named(kind, sd_folder):
    codec = make_codec() if kind == "small" else load_codec(sd_folder)
    with pytest.raises(InvalidShape, match="multiples of 8"):
        codec.encode(torch.zeros(1, 3, 30, 32))
    with pytest.raises(InvalidShape, match=r"\(N, 4, h, w\)"):
        codec.decode(torch.zeros(1, 3, 4, 4))
