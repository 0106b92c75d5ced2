import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from wamlab.data import perturb as p
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randint(30, 220, (2, 5, 3, 48, 60), generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize("name", p.PERTURBATIONS)
def test_frames_in_frames_out(name, frames):
    before = frames.clone()
    out, again = (p.perturb(name, frames, generator()) for _ in range(2))
    assert (out.shape, out.dtype) == (frames.shape, torch.uint8)
    assert torch.equal(out, again)
    assert torch.equal(frames, before), "the frames given are left alone"
    assert torch.equal(out, frames) == (name == "none")


def test_blur_agrees_with_scipy(frames):
    found = p.blur(frames, 0.04)[1, 2].float()
    expected = gaussian_filter(frames[1, 2].double().numpy(), (0, 1.92, 1.92), mode="mirror", radius=(0, 6, 6))
    assert np.abs(found.numpy() - expected).max() <= 0.51
    whole = p.blur(torch.nn.functional.interpolate(frames[0].float(), scale_factor=4).to(torch.uint8), 0.04)
    assert abs(float(whole.float().std()) / float(p.blur(frames[0], 0.04).float().std()) - 1) < 0.1, (
        "the same at any resolution"
    )


def test_noise_has_its_size_and_its_seed(frames):
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    found = p.noise(grey, generator(), 25).float() - 128
    assert float(found.std()) == pytest.approx(25, rel=0.02)
    assert abs(float(found.mean())) < 0.5
    assert not torch.equal(p.noise(frames, generator(0)), p.noise(frames, generator(1)))


def test_brightness_is_cut_at_white():
    assert p.brightness(torch.tensor([0, 100, 200], dtype=torch.uint8).expand(3, 1, 3), 1.8)[0, 0].tolist() == [
        0,
        180,
        255,
    ]


def test_a_third_is_a_third():
    frames = torch.full((1, 3, 4, 224), 9, dtype=torch.uint8)
    left, right = (p.occlude_third(frames, side)[0, 0, 0] for side in ("left", "right"))
    assert left.nonzero().min() == 75, "columns 0 to 74 of 224, as in the paper's code"
    assert torch.equal(left.flip(0), right)


def test_order_is_shuffled_and_nothing_else(frames):
    clips = torch.arange(40, dtype=torch.uint8).repeat(6, 1)[..., None, None, None].expand(-1, -1, 3, 2, 2)
    found = p.shuffle_order(clips, generator())
    assert torch.equal(found.sort(dim=1).values, clips)
    orders = {tuple(clip[:, 0, 0, 0].tolist()) for clip in found}
    assert len(orders) == 6, "each clip another order"
    assert torch.equal(found, found[:, :, :1, :1, :1].expand_as(found)), "frames stay whole"
    assert torch.equal(p.shuffle_order(clips[0], generator()).sort(0).values, clips[0])


class TestBoxes:
    intrinsics = np.array([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]])

    def corners(self, x: float, z: float) -> np.ndarray:
        """A vehicle 2 m wide, 1.5 m high and 4 m long, 1.5 m below the camera at its lower edge."""
        return np.array([[x + dx, y, z + dz] for dx in (-1, 1) for y in (0, 1.5) for dz in (-2, 2)])

    def box(self, *vehicles: np.ndarray, curvature_per_m: float = 0.0) -> np.ndarray:
        corners = np.array(vehicles).reshape(-1, 8, 3)
        return p.lead_vehicle_box(corners, self.intrinsics, (1600, 900), 450, curvature_per_m)

    def test_the_nearest_ahead_by_hand(self):
        found = self.box(self.corners(0, 32), self.corners(0, 12), self.corners(4, 8), self.corners(0, -12))
        assert found == pytest.approx(
            [175, 225, 275, 300]
        )  # at 10 m: ±100 pixels wide, 150 high; halved, without 350 columns
        alone = self.box(self.corners(0, 32))
        assert alone[2] - alone[0] == pytest.approx(100 / 3)

    def test_on_a_left_bend_the_vehicle_ahead_is_to_the_left(self):
        oncoming, lead = self.corners(0, 22), self.corners(-6, 32)  # 1 / 80 m: the path is 6.4 m to the left at 32 m
        assert self.box(oncoming, lead, curvature_per_m=1 / 80) == pytest.approx(
            self.box(self.corners(-6, 32), curvature_per_m=1 / 80)
        )
        assert self.box(oncoming, lead) == pytest.approx(self.box(oncoming))

    def test_none_ahead(self):
        for vehicles in ([], [self.corners(2, 12)], [self.corners(0, -12)], [self.corners(0, 1)]):
            assert np.isnan(self.box(*vehicles)).all()

    def test_boxes_are_black_and_the_rest_stays(self):
        frames = torch.full((3, 3, 8, 10), 7, dtype=torch.uint8)
        found = p.occlude_boxes(frames, [[1.2, 2, 3.5, 4], [np.nan] * 4, [-5, 6, 99, 99]])
        assert (found[0] == 0).nonzero()[:, 1:].tolist() == [
            [y, x] for _ in range(3) for y in (2, 3) for x in (1, 2, 3)
        ]
        assert torch.equal(found[1], frames[1])
        assert (found[2, 0] == 0).sum() == 20


def test_what_does_not_fit_is_refused(frames):
    with pytest.raises(UnknownName, match="unknown perturbation 'snow'; known: blur"):
        p.perturb("snow", frames, generator())
    with pytest.raises(InvalidShape, match="uint8, not .* torch.float32"):
        p.blur(frames.float())
    with pytest.raises(InvalidShape, match="has no order"):
        p.shuffle_order(frames[0, 0], generator())
    with pytest.raises(InvalidShape, match=r"boxes \(N, 4\)"):
        p.occlude_boxes(frames[0], np.zeros((4, 4)))
    with pytest.raises(InvalidParameter, match="sigma"):
        p.blur(frames, 0.0)
    with pytest.raises(InvalidParameter, match="gain must be positive"):
        p.brightness(frames, 0.0)
    with pytest.raises(UnknownName, match="unknown side 'middle'; known: left, right"):
        p.occlude_third(frames, "middle")
