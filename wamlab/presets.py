"""How big everything is: `smoke` (seconds), `quick` (minutes on two CPU cores) and `paper` (the paper's scale, on a GPU)."""

from __future__ import annotations

from dataclasses import dataclass

from wamlab.codecs.small_vae import SmallVaeConfig
from wamlab.data.perturb import LEAD_VEHICLE
from wamlab.encoders import ENCODERS, SmallClip, SmallDinov2, SmallVit, SmallVJepa2, SmallVq
from wamlab.errors import UnknownName
from wamlab.models.anchored_dit import AnchoredDiTConfig
from wamlab.training.loop import TrainConfig
from wamlab.world.filming import CLIPS


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained. The shapes in `model` that data and codec decide are filled in by `build_model`."""

    model: AnchoredDiTConfig
    train: TrainConfig


@dataclass(frozen=True)
class CodecRecipe:
    """The small codec and how it is trained, on `num_frames` frames spread evenly over the training scenes."""

    model: SmallVaeConfig
    train: TrainConfig
    num_frames: int = 4096


#: The embedded encoders, and the twin of each that was never trained.
EMBEDDED = tuple(f"{name}/{variant}" for name in ENCODERS for variant in ("embedded", "random"))


@dataclass(frozen=True)
class ProbingRecipe:
    """What is asked of the frozen encoders.

    Attributes:
        encoders: as `load_encoder` takes them.
        every, run: probes read the frames of `every_nth` (neighbours say nearly the same): where the embedded dataset has whole clips.
        train_scenes, test_scenes: at most so many; 0: all. Of the validation split all.
        rate_hz: frames a second in clips; None: as recorded.
        perturbations: what is done to frames that the fitted probes are then asked about; `LEAD_VEHICLE` only where vehicles are annotated.
        labelled_scenes: at most so many training scenes teach the dense readout, with one frame each; 0: all.
        num_shown: drives in the player; frames_shown: of each, in a row.
    """

    encoders: tuple[str, ...] = EMBEDDED
    every: int = CLIPS[0]
    run: int = CLIPS[1]
    train_scenes: int = 0
    test_scenes: int = 0
    rate_hz: float | None = None
    perturbations: tuple[str, ...] = ("blur", "noise", "dark", "right third", LEAD_VEHICLE)
    labelled_scenes: int = 32
    num_shown: int = 3
    frames_shown: int = 6


@dataclass(frozen=True)
class EncoderRecipe:
    """An embedded encoder and how it is pretrained, on all frames of the training scenes."""

    model: SmallVit | SmallDinov2 | SmallClip | SmallVJepa2 | SmallVq
    train: TrainConfig


def _pretraining(steps: int, batch_size: int, learning_rate: float = 1e-3) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, weight_decay=0.05, precision="bf16"
    )


@dataclass(frozen=True)
class EncoderRecipes:
    """Of all families, by the folders of their weights. A few minutes each on two CPU cores."""

    vit: EncoderRecipe = EncoderRecipe(SmallVit(), _pretraining(400, 64))
    dinov2: EncoderRecipe = EncoderRecipe(SmallDinov2(), _pretraining(150, 64))
    clip: EncoderRecipe = EncoderRecipe(SmallClip(), _pretraining(220, 64))
    vjepa2: EncoderRecipe = EncoderRecipe(SmallVJepa2(), _pretraining(400, 8))
    vq: EncoderRecipe = EncoderRecipe(SmallVq(), _pretraining(180, 32, 2e-3))


@dataclass(frozen=True)
class Preset:
    """Any field can be changed by a dotted key: `override(PRESETS["quick"], {"direct.train.steps": 100})`.

    Attributes:
        resolution: of the square frames, pixels; codec: as `load_codec` takes it.
        num_context, horizon: frames of a window, at the dataset's rate; stride: between the starts of training windows.
        direct, diffusion, small_vae: what is trained, by the model's name; encoders: the embedded ones.
        sampler_steps, guidance: of DDIM.
        eval_scenes, windows_per_scene: at most so many scenes of the test split, and windows of each.
        seeds: of the training runs that a study compares; the first is the default.
        probing: what is asked of the encoders.
    """

    name: str
    resolution: int
    codec: str
    num_context: int
    horizon: int
    direct: Recipe
    diffusion: Recipe
    small_vae: CodecRecipe
    encoders: EncoderRecipes = EncoderRecipes()
    stride: int = 1
    sampler_steps: int = 10
    guidance: float = 1.0
    eval_scenes: int = 24
    windows_per_scene: int = 2
    seeds: tuple[int, ...] = (0,)
    probing: ProbingRecipe = ProbingRecipe()


_TINY = {"dim": 32, "depth": 2, "heads": 2, "num_frequencies": 16}
_TINY_TRAIN = TrainConfig(steps=20, batch_size=8, warmup_steps=5, checkpoint_every=10, val_batches=1)
_PAPER = {
    "present": "pooled",
    "actions": ("steering_rad", "accel_mps2"),
    "dim": 256,
    "depth": 4,
    "heads": 4,
    "patch": 4,
}
_TINY_ENCODER = TrainConfig(steps=2, batch_size=4, warmup_steps=1, checkpoint_every=2, val_batches=1)
#: Adam at a constant 1e-4, batch 64, 100 epochs, clip 1, EMA 0.999.
_PAPER_TRAIN = TrainConfig(
    epochs=100,
    batch_size=64,
    learning_rate=1e-4,
    weight_decay=0.0,
    betas=(0.9, 0.999),
    schedule="constant",
    warmup_steps=0,
    checkpoint_every=1000,
    val_batches=16,
    log_every=50,
    workers=4,
)

SMOKE = Preset(
    name="smoke",
    resolution=128,
    codec="small-vae",
    num_context=1,
    horizon=4,
    direct=Recipe(AnchoredDiTConfig(objective="direct", **_TINY), _TINY_TRAIN),
    diffusion=Recipe(AnchoredDiTConfig(objective="diffusion", **_TINY), _TINY_TRAIN),
    small_vae=CodecRecipe(
        SmallVaeConfig(width=32, encoder_blocks=1, decoder_blocks=1),
        TrainConfig(steps=10, batch_size=8, warmup_steps=2, checkpoint_every=10, val_batches=1),
        num_frames=64,
    ),
    encoders=EncoderRecipes(
        vit=EncoderRecipe(SmallVit(), _TINY_ENCODER),
        dinov2=EncoderRecipe(SmallDinov2(), _TINY_ENCODER),
        clip=EncoderRecipe(SmallClip(), _TINY_ENCODER),
        vjepa2=EncoderRecipe(SmallVJepa2(), _TINY_ENCODER),
        vq=EncoderRecipe(SmallVq(), _TINY_ENCODER),
    ),
    stride=4,
    sampler_steps=4,
    eval_scenes=3,
    windows_per_scene=1,
    probing=ProbingRecipe(
        encoders=tuple(name for name in EMBEDDED if name.startswith(("vit", "vjepa2"))),
        every=2,
        run=1,
        test_scenes=3,
        perturbations=("dark",),
        num_shown=1,
        frames_shown=4,
    ),
)

QUICK = Preset(
    name="quick",
    resolution=128,
    codec="small-vae",
    num_context=1,
    horizon=4,
    direct=Recipe(AnchoredDiTConfig(objective="direct"), TrainConfig(steps=250)),
    diffusion=Recipe(AnchoredDiTConfig(objective="diffusion"), TrainConfig(steps=500)),
    small_vae=CodecRecipe(
        SmallVaeConfig(),
        TrainConfig(steps=2000, batch_size=16, learning_rate=2e-3, warmup_steps=100, checkpoint_every=500),
    ),
)

PAPER = Preset(
    name="paper",
    resolution=256,
    codec="sd-vae",
    num_context=1,
    horizon=16,
    direct=Recipe(AnchoredDiTConfig(objective="direct", **_PAPER), _PAPER_TRAIN),
    diffusion=Recipe(AnchoredDiTConfig(objective="diffusion", **_PAPER), _PAPER_TRAIN),
    small_vae=CodecRecipe(
        SmallVaeConfig(width=192, encoder_blocks=4, decoder_blocks=8),
        TrainConfig(steps=50_000, batch_size=64, checkpoint_every=1000, workers=4),
        num_frames=25_000,
    ),
    sampler_steps=50,
    eval_scenes=150,
    windows_per_scene=1,
    seeds=(0, 1, 2),
    probing=ProbingRecipe(
        encoders=tuple(ENCODERS),
        every=1,
        run=1,
        perturbations=("blur", "noise", "dark", "bright", "left third", "right third", LEAD_VEHICLE),
        labelled_scenes=0,
        num_shown=4,
        frames_shown=16,
    ),
)

PRESETS = {preset.name: preset for preset in (SMOKE, QUICK, PAPER)}


def get_preset(name: str) -> Preset:
    """The preset of this name. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
