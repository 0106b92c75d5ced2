"""Each encoder is its backbone: called directly, with the published numbers, that is the reference. And it is frozen."""

import pytest
import torch
from encoder_folders import PROCESSORS, make_clips, make_models, save_all, smooth_frames

from wamlab.encoders import ENCODERS, load_encoder
from wamlab.encoders.frozen import orthogonal
from wamlab.errors import InvalidShape

MODELS = make_models()
#: Encoder -> the pixels it sees, as `PROCESSORS` cuts them.
SIDES = {"vit-s16": 48, "dinov2-s14": 56, "clip-b32": 64, "vjepa2-rep1": 48, "vjepa2-rep64": 48, "vq": 48}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_all(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, folders):
    return load_encoder(f"{request.param}={folders[request.param]}")


def inputs(encoder, n=3):
    return smooth_frames(n) if encoder.num_frames == 1 else make_clips(n)


def direct(name, frames):
    """Pooled output and dense features, straight from the library's model, for frames that need no resizing."""
    numbers = PROCESSORS[name.replace("rep1", "rep64")]
    mean, std = (torch.tensor(numbers[key])[:, None, None] for key in ("image_mean", "image_std"))
    margin = (frames.shape[-1] - SIDES[name]) // 2
    pixels = (frames[..., margin : margin + SIDES[name], margin : margin + SIDES[name]] / 255 - mean) / std
    model = MODELS[name.replace("rep1", "rep64")]
    if name == "vit-s16":
        tokens = model.vit(pixels).last_hidden_state
        return tokens[:, 0], tokens[:, 1:]
    if name == "dinov2-s14":
        output = model(pixels)
        return output.pooler_output, output.last_hidden_state[:, 1:]
    if name == "clip-b32":
        image = model.vision_model(pixels)
        patches = model.vision_model.post_layernorm(image.last_hidden_state[:, 1:])
        return model.visual_projection(image.pooler_output), patches
    if name == "vq":
        codes = model.quantize(model.encode(pixels).latents)[0]
        return codes.mean(dim=(2, 3)), codes.flatten(2).transpose(1, 2)
    video = torch.stack([pixels, pixels], dim=1) if name == "vjepa2-rep1" else pixels
    tokens = model(video, skip_predictor=True).last_hidden_state
    return tokens.mean(dim=1), tokens[:, -9:]


def test_is_the_backbone_with_its_published_numbers(encoder):
    frames = inputs(encoder)
    side = encoder.resolution
    frames = torch.nn.functional.interpolate(frames.reshape(-1, 3, 48, 48).float(), size=(side, side)).to(torch.uint8)
    frames = frames if encoder.num_frames == 1 else frames.unflatten(0, (3, 16))
    with torch.no_grad():
        pooled, patches = direct(encoder.name, frames)
    embeddings, features = encoder.encode(frames), encoder.features(frames)
    assert embeddings.shape == (3, 384) and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings @ encoder.projection.T, pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embeddings.norm(dim=1), pooled.norm(dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features.flatten(1, 2), patches, atol=1e-4, rtol=1e-4)
    assert features.shape[1] == features.shape[2] == encoder.grid[1]


def test_the_batch_does_not_matter_and_nothing_is_random(encoder):
    frames = inputs(encoder, 5)
    together, encoder.frames_at_once = encoder.encode(frames), 2 * encoder.num_frames
    alone = torch.cat([encoder.encode(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.encode(frames), together, atol=1e-5, rtol=1e-4)
    assert torch.equal(encoder.encode(frames), encoder.encode(frames))
    assert together.std(dim=0).norm() > 1e-3 * together.norm(dim=1).mean(), "frames are told apart"


def test_is_frozen(encoder):
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.activations(inputs(encoder), lambda z: z.square().sum(dim=1))
    assert not encoder.training and not any(m.training for m in encoder.modules())
    assert not any(p.requires_grad or p.grad is not None for p in encoder.parameters())
    assert not encoder.encode(inputs(encoder)).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_embeddings_can_be_trained_on(encoder):
    weight = torch.ones(384, requires_grad=True)
    (encoder.encode(inputs(encoder)) @ weight).sum().backward()
    assert weight.grad.isfinite().all()


def test_gradients_are_the_slope_of_the_score(encoder):
    """A small step of the patches along the gradient, at the last block's input, changes the score by the gradient's squared length."""
    frames = inputs(encoder, 2)
    weight = torch.randn(384, generator=torch.Generator().manual_seed(1))
    activations, gradients = encoder.activations(frames, lambda z: z @ weight)
    assert activations.shape == gradients.shape == (2, *encoder.grid, activations.shape[-1])
    assert not gradients.requires_grad
    if (
        encoder.name == "vq"
    ):  # straight through the codebook to the mean, so the slope is known, and the same everywhere
        kernel = encoder.backbone.quant_conv.weight[:, :, 0, 0]  # (D, d)
        want = (encoder.projection @ weight) @ kernel / (encoder.grid[1] * encoder.grid[2])
        torch.testing.assert_close(gradients, want.expand_as(gradients))
        return
    step = 1e-3 / gradients.abs().max()

    def moved(_, inputs, sign):
        hidden = inputs[0].clone()
        hidden[:, encoder.num_prefix :] += sign * step * gradients.flatten(1, 3)
        return hidden, *inputs[1:]

    scores = []
    for sign in (1, -1):
        with encoder.last_block.register_forward_pre_hook(lambda m, x, s=sign: moved(m, x, s)):
            scores.append(encoder.encode(frames) @ weight)
    want = gradients.square().sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close((scores[0] - scores[1]) / (2 * step), want, rtol=0.02, atol=0)


def test_activations_agree_with_the_library_s_own_hidden_states(folders):
    encoder, frames = load_encoder(f"vit-s16={folders['vit-s16']}"), smooth_frames(2)
    activations, gradients = encoder.activations(frames, lambda z: z[:, :3].sum(dim=1))
    pixels = frames / 127.5 - 1
    with torch.enable_grad():
        hidden = MODELS["vit-s16"].vit(pixels.requires_grad_(), output_hidden_states=True).hidden_states
        hidden[-2].retain_grad()
        embeddings = MODELS["vit-s16"].vit.layernorm(hidden[-1])[:, 0] @ encoder.projection
        embeddings[:, :3].sum().backward()
    torch.testing.assert_close(activations.flatten(1, 3), hidden[-2][:, 1:].detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients.flatten(1, 3), hidden[-2].grad[:, 1:], atol=1e-4, rtol=1e-3)


def test_short_clips_begin_with_their_first_frame_repeated(folders):
    encoder, clips = load_encoder(folders["vjepa2-rep64"]), make_clips()
    short = clips[:, -5:]
    want = torch.cat([short[:, :1].repeat(1, 11, 1, 1, 1), short], dim=1)
    assert torch.equal(encoder.encode(short), encoder.encode(want))
    assert torch.equal(encoder.features(short[:, -1:]), encoder.features(short[:, -1:].repeat(1, 16, 1, 1, 1)))
    assert not torch.allclose(encoder.encode(clips), encoder.encode(clips.flip(1)), atol=1e-3), "order matters"
    assert not torch.allclose(encoder.encode(clips), encoder.encode(short), atol=1e-3)


@pytest.mark.parametrize("frames", [(0, 3, 48, 48), (2, 3, 48), (2, 4, 48, 48), (1, 2, 3, 48, 48)], ids=str)
def test_wrong_shapes_are_named(folders, frames):
    encoder = load_encoder(folders["vit-s16"])
    with pytest.raises(InvalidShape, match=r"vit-s16 reads \(B, 3, H, W\) uint8, not \("):
        encoder.encode(torch.zeros(frames, dtype=torch.uint8))


def test_wrong_types_sizes_and_lengths_are_named(folders):
    frames, clips = load_encoder(folders["vit-s16"]), load_encoder(folders["vjepa2-rep64"])
    with pytest.raises(InvalidShape, match="uint8, not .* torch.float32"):
        frames.features(torch.zeros(2, 3, 48, 48))
    with pytest.raises(InvalidShape, match="at least 16 pixels a side, not"):
        frames.encode(torch.zeros(2, 3, 48, 15, dtype=torch.uint8))
    for shape in ((1, 17, 3, 48, 48), (1, 0, 3, 48, 48), (16, 3, 48, 48)):
        with pytest.raises(InvalidShape, match=r"reads \(B, T, 3, H, W\) with 1 <= T <= 16 uint8"):
            clips.encode(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("width", [1, 32, 384, 512, 1024])
def test_the_projection_is_orthogonal(width):
    matrix = orthogonal(width, 384)
    assert matrix.shape == (width, 384) and torch.equal(matrix, orthogonal(width, 384))
    gram = matrix @ matrix.T if width < 384 else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(min(width, 384)), atol=1e-5, rtol=0)


def test_the_own_width_is_not_projected(folders):
    """The real ViT-S/16 and DINOv2-S/14 have 384: what comes out is the class token itself."""
    from transformers import ViTConfig, ViTModel

    from wamlab.encoders.vit import SmallVit, Vit

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=48, patch_size=16, hidden_size=384, num_hidden_layers=1, num_attention_heads=6, intermediate_size=384
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    encoder = Vit(model, SmallVit(image_size=48).preprocess(), "vit-s16")
    frames = smooth_frames(2)
    with torch.no_grad():
        want = model(frames / 127.5 - 1).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode(frames), want, atol=1e-5, rtol=1e-5)


def test_half_precision_is_near_and_has_a_key_of_its_own(folders):
    full = load_encoder(folders["dinov2-s14"])
    half = load_encoder(folders["dinov2-s14"], precision="bfloat16")
    z, near = full.encode(smooth_frames()), half.encode(smooth_frames())
    assert near.dtype == torch.float32 and not torch.equal(z, near)
    assert ((z - near).norm(dim=1) / z.norm(dim=1)).max() < 0.05
    assert full.digest != half.digest


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_works_in_half_precision_and_agrees(encoder, folders):
    on_gpu = load_encoder(f"{encoder.name}={folders[encoder.name]}", "cuda")
    frames = inputs(encoder)
    z, near = encoder.encode(frames), on_gpu.encode(frames)
    assert on_gpu.precision == "bfloat16" and near.is_cuda
    assert torch.nn.functional.cosine_similarity(z, near.cpu()).min() > 0.99
