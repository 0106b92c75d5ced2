"""The pretraining objectives: each learns, reaches its backbone, is a function of its generator, and refuses what it cannot learn from."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import make_dataset

from wamlab.data import open_dataset
from wamlab.encoders import SmallClip, SmallDinov2, SmallVit, SmallVJepa2, SmallVq
from wamlab.encoders.pretraining import OBJECTIVES, Batch, Frames, collate
from wamlab.encoders.pretraining.contrast import END, MAX_TOKENS, tokenize
from wamlab.encoders.pretraining.distillation import balance, crop, crowding
from wamlab.encoders.pretraining.masking import hide
from wamlab.encoders.pretraining.objective import follow
from wamlab.encoders.pretraining.supervised import ATTRIBUTES, CELLS, SceneLabels
from wamlab.errors import LabelsMissing, UnknownName
from wamlab.presets import get_preset
from wamlab.training import train
from wamlab.world.images import png
from wamlab.world.primitives import Semantic

SIZES = {
    "vit": SmallVit(64, width=32, depth=2),
    "dinov2": SmallDinov2(70, width=32, depth=2),
    "clip": SmallClip(64, width=32, depth=2, projection=32),
    "vjepa2": SmallVJepa2(64, width=32, depth=2, heads=2, predictor_width=24, predictor_depth=2),
    "vq": SmallVq(32, (8, 16, 16), code_width=8, num_codes=64),
}


def build(name):
    torch.manual_seed(0)
    return OBJECTIVES[name](SIZES[name])


def make_batch(name, size=8):
    """Frames of differently placed bright squares on different grounds, with labels that follow from the number of the frame."""
    objective, side = OBJECTIVES[name], SIZES[name].image_size
    frames = torch.zeros(size, objective.num_frames, 3, side, side, dtype=torch.uint8)
    for i in range(size):
        frames[i] = torch.tensor([20 * i, 90, 160 - 20 * i])[:, None, None]
        for t in range(objective.num_frames):
            left = (5 * i + 2 * t) % (side // 2)
            frames[i, t, :, side // 4 : side // 2, left : left + side // 3] = 230
    labels = torch.zeros(size, 0)
    if name == "vit":
        shares = torch.zeros(size, len(Semantic), CELLS**2)
        for i in range(size):
            shares[i, i % len(Semantic)] = 1.0
        labels = torch.cat([torch.arange(size)[:, None] % 3 * torch.ones(3), shares.flatten(1)], dim=1)
    if name == "clip":
        words = ("night", "rain", "urban", "turn left", "follow bus", "rural", "fog, dusk", "parked cars")
        labels = torch.stack([tokenize(words[i % len(words)]).float() for i in range(size)])
    return Batch(frames, labels)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learns_and_reaches_the_whole_backbone(name):
    objective, batch = build(name), make_batch(name)
    objective.prepare(batch.frames)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for step in range(30):
        loss, logs = objective.loss(batch, generator(step % 3))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            trained = {n: p.grad for n, p in objective.backbone.named_parameters() if p.requires_grad}
            still = {n for n, gradient in trained.items() if gradient is None or not gradient.any()}
            assert all(n.endswith(("key.bias", "k_proj.bias")) for n in still), (
                still
            )  # they shift all scores of a query alike
        optimizer.step()
        losses.append(loss.item())
    assert objective.measure in logs and math.isfinite(losses[-1])
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3]), losses


@pytest.mark.parametrize("name", OBJECTIVES)
def test_is_a_function_of_its_generator(name):
    objective, batch = build(name), make_batch(name)
    before = torch.get_rng_state()
    objective.train()
    values = [build(name).train().loss(batch, generator(seed))[0].item() for seed in (1, 1)]
    torch.set_rng_state(before)
    objective.eval().loss(batch, generator())
    assert values[0] == values[1]
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left alone"


def test_validation_changes_nothing():
    for name in OBJECTIVES:
        objective, batch = build(name).eval(), make_batch(name)
        before = {k: v.clone() for k, v in objective.state_dict().items()}
        objective.loss(batch, generator())
        assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items()), name


def test_teachers_follow_their_students():
    for name, student in (("dinov2", "backbone"), ("vjepa2", "backbone.encoder")):
        objective = build(name)
        teacher, student = objective.teacher, objective.get_submodule(student)
        weight = next(student.parameters())
        start = weight.detach().clone()
        with torch.no_grad():
            weight.add_(1.0)
        follow(teacher, student, 0.9)
        torch.testing.assert_close(next(teacher.parameters()), start + 0.1)
        assert not any(p.requires_grad for p in teacher.parameters())


def test_crops_lie_inside_and_show_what_is_there():
    """Of a ramp along x, a crop is a ramp with the slope of its share; jitter scales it by at most 1.3 and shifts it by at most 0.3."""
    ramp = torch.linspace(-1, 1, 64).expand(16, 3, 64, 64)
    views = crop(ramp, 32, (0.5, 0.5), generator())
    slopes = (views[:, 0, 16, -1] - views[:, 0, 16, 0]) / (31 / 32)  # of centres of pixels
    assert views.shape == (16, 3, 32, 32)
    assert slopes.min() > 0.5 * 2 * 0.69 * 0.98 and slopes.max() < 0.5 * 2 * 1.31 * 1.05
    assert views.abs().max() < 1.3 + 0.31
    assert views[:, 0, 16, 16].std() > 0.1, "they are of different places"


def test_targets_use_all_prototypes_alike():
    """Even if every frame prefers the first one; what distinguishes frames stays."""
    logits = torch.randn(64, 8, generator=generator()) + 4 * torch.eye(8)[0]
    shares = balance(logits)
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    torch.testing.assert_close(shares.mean(0), torch.full((8,), 1 / 8), atol=0.02, rtol=0)
    assert (logits.softmax(1).mean(0)[0] > 0.6) and (shares[:, 1].argmax() == (logits[:, 1] - logits[:, 0]).argmax())


def test_crowding_is_of_the_nearest_other():
    angles = torch.tensor([0.0, 0.1, 2.0, 2.3])
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    chords = 2 * torch.sin(torch.tensor([0.1, 0.1, 0.3, 0.3]) / 2)
    torch.testing.assert_close(crowding(points), -chords.log().mean(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("count", "share"), [(8, 0.15), (2, 0.7), (3, 1.0), (1, 0.001)])
def test_masks_hide_something_and_leave_something(count, share):
    masks = torch.stack([hide(8, count, share, generator(seed)) for seed in range(40)]).float()
    assert masks.flatten(1).sum(1).min() >= 1 and masks.flatten(1).sum(1).max() <= 63
    if count > 1 and share < 1:
        assert masks.mean() == pytest.approx(1 - (1 - share) ** count, abs=0.12)


def test_only_the_visible_patches_reach_the_predictor():
    objective, clips = build("vjepa2").eval(), make_batch("vjepa2", 2).frames
    hidden = hide(4, 2, 0.3, generator())
    indices = hidden.flatten().repeat(8)
    visible, wanted = (~indices).nonzero()[:, 0], indices.nonzero()[:, 0]
    other = torch.where(hidden.repeat_interleave(16, 0).repeat_interleave(16, 1), 255 - clips, clips)
    with torch.no_grad():
        patches = [objective.backbone.encoder.embeddings(objective.preprocess(x)) for x in (clips, other)]
        said = [objective._predict(x, visible, wanted) for x in patches]
    assert not torch.allclose(*patches)
    assert said[0].shape == (2, len(wanted), 32)
    torch.testing.assert_close(said[0], said[1], atol=1e-5, rtol=1e-5)


def test_codes_that_no_latent_chose_move_to_where_latents_are():
    objective, batch = build("vq"), make_batch("vq")
    codes = objective.backbone.quantize.embedding.weight
    with torch.no_grad():
        codes[1:].fill_(1e3)
    assert objective.loss(batch, generator())[1]["codes"] == 1, "all choose the only one within reach"
    assert codes.abs().max() < 100
    assert objective.loss(batch, generator())[1]["codes"] > 8


def test_equal_descriptions_match_each_other():
    """Frames of one scene with the same text: were the others of the scene false matches, they could not all be retrieved."""
    objective, batch = build("clip").eval(), make_batch("clip")
    same = Batch(batch.frames, batch.labels[:1].expand(8, -1))
    loss, logs = objective.loss(same, generator())
    assert logs["retrieved"] == 1.0 and loss.item() == pytest.approx(math.log(8), abs=0.5)


def test_tokens():
    tokens = tokenize("Rain, turn left")
    assert tokens.shape == (MAX_TOKENS,) and (tokens > 0).sum() == 4 and tokens[3] == END
    assert torch.equal(tokens[:3], tokenize("rain turn LEFT")[:3]), "neither case nor commas matter"
    long = tokenize("many cars " * 60)
    assert (long > 0).all() and long[-1] == END


def test_frames_are_of_many_scenes_side_by_side(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path, {"scene-0001": "train", "scene-0002": "train"}, frames=5))
    frames = Frames(dataset, dataset.scenes(), 32, labels=lambda scene: torch.full((5, 1), float(scene.name[-1])))
    assert [frames[i][1].item() for i in range(4)] == [1, 2, 1, 2]
    clips = Frames(dataset, dataset.scenes(), 32, num_frames=3)
    batch = collate([clips[i] for i in range(len(clips))])
    assert batch.frames.shape == (6, 3, 3, 32, 32), "those that show no frame twice"
    assert clips.pace == "2 frames a second (a clip spans 1.5 s), "
    assert torch.equal(batch.frames[5, -1], frames[9][0][0]), "a clip ends with its frame"
    assert torch.equal(batch.frames[5, 0], frames[5][0][0]), "and begins two frames earlier"
    short = Frames(dataset, dataset.scenes(), 32, num_frames=6)
    assert len(short) == 10 and torch.equal(short[0][0][0], short[0][0][5]), "none: a drive too short repeats its first"


def test_labels_say_what_is_in_view(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path, frames=4))
    scene = replace(dataset.scenes("train")[0], attributes={"time": "night", "weather": "rain", "place": "rural"})
    objective = build("vit")
    with pytest.raises(LabelsMissing, match="no semantic labels"):
        objective.labels(scene)
    for path in scene.image_paths:  # the left half of the square is one class, the right another
        label = path.parents[2] / "labels" / "semantic" / path.parent.name / f"{path.stem}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes(png(torch.tensor([1, 2], dtype=torch.uint8).repeat_interleave(48).expand(64, 96).numpy()))
    labels = objective.labels(scene)
    assert labels[0, :3].tolist() == [v.index(scene.attributes[k]) for k, v in ATTRIBUTES.items()]
    shares = labels[:, 3:].reshape(4, len(Semantic), CELLS, CELLS)
    torch.testing.assert_close(shares.sum(1), torch.ones(4, CELLS, CELLS))
    assert (shares[:, 1, :, :2] == 1).all() and (shares[:, 2, :, 2:] == 1).all()


def test_what_cannot_be_learned_from_is_named(dataset):
    scene = dataset.scenes("train")[0]
    with pytest.raises(LabelsMissing, match="scene-0001 has no label 'time' of day, dusk, night, but None"):
        SceneLabels(SIZES["vit"]).labels(replace(scene, attributes={}))
    with pytest.raises(LabelsMissing, match="scene-0001 has no description"):
        build("clip").labels(replace(scene, description=" "))


def test_the_command_refuses_what_the_data_lack(dataset_root, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "runs"))
    with pytest.raises(LabelsMissing, match="scene-0001 has no semantic labels.*wamlab data synth"):
        train("vit-s16", dataset_root, "smoke", output=tmp_path, progress=False)
    with pytest.raises(UnknownName, match=r"known: clip-b32, .*vit-s16, vjepa2-rep1, vjepa2-rep64, vq"):
        train("vit-b16", dataset_root, "smoke", output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_family_has_a_recipe_and_an_objective():
    for preset in ("smoke", "quick", "paper"):
        assert set(vars(get_preset(preset).encoders)) == set(OBJECTIVES)
