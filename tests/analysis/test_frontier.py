"""The plane made of known distortions: noise costs nearness and realism, a mean costs realism, the truth is the ceiling."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import IdentityCodec

from wamlab.analysis import frontier
from wamlab.analysis import windows as windows_module
from wamlab.analysis.frontier import CEILING, WHOLE, cells, efficient, level_table, see, spread_cells
from wamlab.analysis.windows import Windows, take_windows
from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.metrics.distribution import kernel_by_scene, kernel_distance
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.render import to_uint8
from wamlab.types import Scene

N, F = 24, 2
POOLED = Extractor("pooled", "2" * 16, "none", lambda x: torch.nn.functional.avg_pool2d(x.float() / 50, 4).flatten(1))


def made(truth: torch.Tensor, per_scene: int = 2) -> Windows:
    """Windows whose camera frames are the truth itself."""
    n = len(truth)
    return Windows(
        tuple(f"scene-{i // per_scene:02d}" for i in range(n)), tuple(3 + 5 * (i % per_scene) for i in range(n)), ("day",) * n,
        truth[:, :1], truth, torch.zeros(n, truth.shape[1], 3), np.arange(1, truth.shape[1] + 1) / 2, to_uint8(truth),
    )  # fmt: skip


def measured(windows: Windows, predicted: dict[str, torch.Tensor], steps=None) -> pd.DataFrame:
    real, codec = POOLED(windows.real), IdentityCodec()
    seen = {name: see(z, windows, codec, POOLED, steps) for name, z in predicted.items()}
    return pd.concat([cells(s, real, windows, POOLED, variant=name, seed=0) for name, s in seen.items()])


@pytest.fixture(scope="module")
def windows() -> Windows:
    coarse = torch.randn(N, F, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.3
    return made(coarse.repeat_interleave(4, -1).repeat_interleave(4, -2))


@pytest.fixture(scope="module")
def table(windows) -> pd.DataFrame:
    truth = windows.truth
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    other = truth.roll(2, 0)  # of the next scene
    return measured(windows, {CEILING: truth, "mean": truth * 0.3, "sample": other, "noisy": other + 0.5 * noise})


def test_nearness_and_realism_trade(table):
    levels = level_table(table[table.step == F], frontier.METRICS, np.random.default_rng(0))
    wide = levels.pivot(index="variant", columns="metric", values="mean")
    assert wide.cosine[CEILING] == pytest.approx(1) and wide.rmse[CEILING] == 0
    assert wide.kd[CEILING] == pytest.approx(0, abs=0.05 * wide.kd["mean"])
    assert wide.cosine["mean"] > wide.cosine["sample"] and wide.kd["mean"] > wide.kd["sample"]
    assert wide.kd["noisy"] > wide.kd["sample"] and wide.rmse["noisy"] > wide.rmse["sample"]
    assert efficient(levels) == ["mean", "sample"]
    assert efficient(levels, (CEILING, "sample")) == ["mean", "noisy"]
    assert (levels.n == N // 2).all() and (levels.low <= levels["mean"]).all() and (levels["mean"] <= levels.high).all()


def test_every_step_and_the_whole_horizon(table, windows):
    assert set(table.step) == {WHOLE, 1, F}
    one = table[table.variant == "mean"].set_index(["step", "scene"])
    assert one.rmse[WHOLE].to_numpy() == pytest.approx((one.rmse[1] + one.rmse[2]).to_numpy() / 2)
    last = measured(windows, {"mean": windows.truth * 0.3}, steps=[F])
    assert set(last.step) == {F}, "a part of the horizon is not the whole"
    assert last.kd.to_numpy() == pytest.approx(one.kd[F].to_numpy())


def test_the_values_of_scenes_are_the_distance_and_its_jackknife(windows):
    generator = torch.Generator().manual_seed(3)
    samples = list(zip(windows.scenes, windows.starts, strict=True))
    x, y = (torch.randn(N, 6, generator=generator) + shift for shift in (0.7, 0.0))
    streams = [FeatureStream(POOLED).add(features, samples) for features in (x, y)]
    values = kernel_by_scene(*streams)
    assert list(values) == sorted(set(windows.scenes))

    def distance(rows: list[int]) -> float:
        """By the definition, pair by pair."""
        both, m = torch.cat([x[rows], y[rows]]), len(rows)
        k = np.array([[(float(a @ b) / 6 + 1) ** 3 for b in both] for a in both])
        xx, yy, xy = k[:m, :m], k[m:, m:], k[:m, m:]
        return (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (m * (m - 1)) - 2 * xy.mean()

    whole, scene = distance(list(range(N))), windows.scenes[4]
    left = distance([i for i in range(N) if windows.scenes[i] != scene])
    assert values[scene] == pytest.approx(N // 2 * whole - (N // 2 - 1) * left, rel=1e-5)
    assert kernel_distance(*streams, subset_size=N, num_subsets=1).value == pytest.approx(whole, rel=1e-5)


def test_too_few_frames_are_marked(windows):
    few = made(windows.truth[:2], per_scene=1)
    table = measured(few, {"mean": few.truth * 0.3})
    assert table[table.step == F].kd.isna().all(), "without one scene a single frame is left"
    assert table[table.step == WHOLE].kd.notna().all()
    levels = level_table(table, frontier.METRICS, np.random.default_rng(0))
    assert not levels[["mean", "low", "high"]].isna().any().any()
    assert set(levels[levels.step == F].metric) == {"cosine", "rmse"}
    assert efficient(levels[levels.step == F]) == []


def test_what_is_shown_does_not_depend_on_the_chunks(windows):
    whole, chunked = (see(windows.truth, windows, IdentityCodec(), POOLED, None, (20, 1), chunk) for chunk in (N, 5))
    assert torch.equal(whole.frames, chunked.frames) and torch.equal(whole.frames, windows.real[[20, 1]])
    assert torch.equal(whole.features, chunked.features)
    with pytest.raises(InvalidShape, match=r"are \(24, 2, 3, 8, 8\) latents, not \(24, 1"):
        see(windows.truth[:, :1], windows, IdentityCodec(), POOLED)


def test_a_known_spread_is_found():
    truth = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gain = torch.tensor([2.5, 1.0, 0.5]).view(3, 1, 1)
    found = spread_cells(truth * gain + 7, truth, [f"{i // 2:02d}" for i in range(40)], variant="x", seed=0)
    assert found[["sigma_1", "sigma_2", "sigma_3"]].to_numpy() == pytest.approx(
        np.tile([2.5, 1.0, 0.5], (20, 1)), rel=1e-6
    )
    assert found.sigma.mean() == pytest.approx(4 / 3)


def scene(k: int, frames: int = 12) -> Scene:
    return Scene(
        f"scene-{k}", "test", np.arange(frames) / 2, (), np.zeros((frames, 3), np.float32), np.zeros((frames, 3))
    )


class Store:
    resolution = 8

    def fill(self, scenes):
        self.filled = [s.name for s in scenes]

    def read(self, name):
        return torch.arange(12.0).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def test_windows_lie_in_the_middles_of_equal_parts(monkeypatch):
    monkeypatch.setattr(
        windows_module,
        "load_frames",
        lambda s, at, size: torch.tensor(list(at)).view(-1, 1, 1, 1).expand(-1, 3, size, size),
    )
    store = Store()
    two = take_windows([scene(0), scene(1, 3), scene(2)], store, 1, 3, per_scene=2, camera=True)
    assert two.scenes == ("scene-0", "scene-0", "scene-2", "scene-2") and two.starts == (2, 6, 2, 6)
    assert store.filled == ["scene-0", "scene-2"], "a scene that is too short is left out"
    assert two.context[:, 0, 0, 0, 0].tolist() == [2, 6, 2, 6] and two.truth[1, :, 0, 0, 0].tolist() == [7, 8, 9]
    assert two.real[1, :, 0, 0, 0].tolist() == [7, 8, 9] and two.times_s.tolist() == [0.5, 1.0, 1.5]
    assert take_windows([scene(0), scene(2)], store, 1, 3).starts == (4, 4)
    with pytest.raises(InvalidParameter, match=r"1 of 2 held-out scenes have a window of 1 \+ 3"):
        take_windows([scene(0), scene(1, 3)], store, 1, 3)
