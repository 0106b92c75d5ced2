import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from torch import nn

from wamlab.errors import InvalidAction, InvalidParameter, InvalidShape, UnknownName
from wamlab.probing import (
    BASELINES,
    PROBES,
    Labelled,
    MlpConfig,
    collect,
    fit_knn,
    fit_last,
    fit_linear,
    fit_mean,
    fit_mlp,
    mlp,
)
from wamlab.types import Scene

WIDTH = 24
QUICK = MlpConfig(hidden=32, batch_size=64, epochs=12, learning_rate=0.01)


def make(num_scenes: int, seed: int, noise: float = 0.1, length: int = 10) -> Labelled:
    """Drives whose steering is the size of one feature (no line fits it) and whose acceleration is a sum of features."""
    generator = torch.Generator().manual_seed(seed)
    n = num_scenes * length
    x = torch.randn(n, WIDTH, generator=generator) * torch.linspace(0.5, 3, WIDTH) + 2
    clean = torch.stack([(x[:, 0] - 2).abs() * 4, (x[:, 1] + x[:, 2]) / 3], dim=1)
    scenes = tuple(f"scene-{i // length:04d}" for i in range(n))
    return Labelled(x, clean + noise * torch.randn(n, 2, generator=generator), scenes)


def mse(probe, data: Labelled) -> torch.Tensor:
    """(S, 2)."""
    return (probe.predict(data) - data.actions).square().mean(1)


@pytest.fixture(scope="module")
def train() -> Labelled:
    return make(40, 0)


@pytest.fixture(scope="module")
def held_out() -> Labelled:
    return make(12, 1)


def scene(name: str, actions: list) -> Scene:
    actions = np.array(actions, np.float32)
    return Scene(name, "test", np.arange(len(actions)) / 2, (), actions, np.zeros((len(actions), 3)))


class TestMlp:
    def test_is_the_paper_s_head_trained_by_adam(self, train, held_out):
        """Against a plain module, loss and optimizer, from the same start over the same batches."""
        config = dataclasses.replace(QUICK, dropout=0.0, learning_rate=1e-3)
        found = fit_mlp(train, config=config, seeds=(5, 6)).predict(held_out)
        for s, seed in enumerate((5, 6)):
            generator = torch.Generator().manual_seed(seed)
            w1, b1, w2, b2 = (w[0] for w in mlp._initial(WIDTH, 32, [generator]))
            net = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, 2))
            net.load_state_dict({"0.weight": w1.T, "0.bias": b1[0], "2.weight": w2.T, "2.bias": b2[0]})
            optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
            x, y = (StandardScaler().fit(t.numpy()) for t in (train.embeddings, train.actions))
            inputs, targets = (
                torch.from_numpy(f.transform(t.numpy())) for f, t in ((x, train.embeddings), (y, train.actions))
            )
            for _ in range(config.epochs):
                for batch in torch.randperm(len(train), generator=generator).split(64):
                    optimizer.zero_grad()
                    nn.functional.mse_loss(net(inputs[batch]), targets[batch]).backward()
                    optimizer.step()
            expected = y.inverse_transform(
                net(torch.from_numpy(x.transform(held_out.embeddings.numpy()))).detach().numpy()
            )
            assert np.allclose(found[s], expected, atol=2e-3)

    def test_defaults_are_the_paper_s(self):
        assert (MlpConfig().hidden, MlpConfig().epochs, MlpConfig().batch_size, MlpConfig().dropout) == (
            256,
            50,
            256,
            0.1,
        )
        assert [tuple(w.shape) for w in mlp._initial(384, 256, [torch.Generator()])][::2] == [
            (1, 384, 256),
            (1, 256, 2),
        ]

    def test_a_seed_decides_everything_and_needs_no_company(self, train, held_out):
        together, again = (fit_mlp(train, config=QUICK, seeds=(0, 1, 2)).predict(held_out) for _ in range(2))
        alone = fit_mlp(train, config=QUICK, seeds=(1,)).predict(held_out)
        assert torch.equal(together, again)
        assert torch.allclose(together[1], alone[0], atol=1e-3)
        assert (together[0] - together[1]).abs().max() > 0.05

    def test_learns_what_no_line_can(self, train, held_out):
        steering = mse(fit_mlp(train, config=dataclasses.replace(QUICK, epochs=30)), held_out)[:, 0].max()
        assert steering < 0.4 * mse(fit_linear(train), held_out)[0, 0]

    def test_dropout_keeps_the_expected_output(self):
        generators = [torch.Generator().manual_seed(s) for s in (0, 1)]
        weights = mlp._initial(4, 16, generators)
        x = torch.randn(2, 1, 4).expand(-1, 20_000, -1)
        plain, dropped = mlp._forward(weights, x), mlp._forward(weights, x, 0.5, generators)
        assert torch.allclose(dropped.mean(1), plain[:, 0], atol=0.02)
        assert dropped.std(1).min() > 0.01

    def test_the_scale_of_an_embedding_does_not_matter_unless_raw(self, train, held_out):
        def error(scale, inputs):
            config = dataclasses.replace(QUICK, inputs=inputs)
            stretched = [dataclasses.replace(d, embeddings=d.embeddings * scale) for d in (train, held_out)]
            return float(mse(fit_mlp(stretched[0], config=config, seeds=(0,)), stretched[1])[0, 1])

        assert error(1e-3, "standardised") == pytest.approx(error(1.0, "standardised"), rel=0.02)
        assert error(1e-3, "raw") > 1.5 * error(1.0, "raw")

    def test_scaling_is_fitted_on_training_scenes_only(self, train, held_out):
        probe = fit_mlp(train, config=QUICK, seeds=(0,))
        one = Labelled(held_out.embeddings[:1], held_out.actions[:1], held_out.scenes[:1])
        assert torch.allclose(probe.predict(one)[0, 0], probe.predict(held_out)[0, 0], atol=1e-5)

    def test_targets_as_in_the_code_are_cut(self):
        data = Labelled(
            torch.randn(300, 3, generator=torch.Generator().manual_seed(0)),
            torch.tensor([[7.2, 0.5]] * 300),
            ("a",) * 300,
        )
        config = MlpConfig(hidden=16, batch_size=32, epochs=30, dropout=0.0, learning_rate=0.01)
        steering = {
            t: float(fit_mlp(data, config=dataclasses.replace(config, targets=t)).predict(data)[..., 0].mean())
            for t in ("zscore", "ranges")
        }
        assert steering == pytest.approx({"zscore": 7.2, "ranges": 6.0}, abs=0.2)

    def test_early_stopping_keeps_the_best_epoch_of_each_seed(self, held_out):
        noise = make(8, 2, noise=6.0)
        config = MlpConfig(hidden=128, batch_size=16, epochs=60, patience=4)
        probe = fit_mlp(noise, held_out, config, seeds=(0, 1, 2))
        assert max(probe.epochs) < 60 and len(set(probe.epochs)) > 1
        for s, kept in enumerate(probe.epochs):
            until = fit_mlp(noise, config=dataclasses.replace(config, patience=None, epochs=kept), seeds=(s,))
            assert torch.allclose(until.predict(held_out)[0], probe.predict(held_out)[s], atol=2e-3)
        overfitted = fit_mlp(noise, config=dataclasses.replace(config, patience=None), seeds=(0, 1, 2))
        assert torch.all(mse(probe, held_out).mean(1) < mse(overfitted, held_out).mean(1))

    def test_what_cannot_be_fitted_is_refused(self, train):
        with pytest.raises(InvalidParameter, match="needs validation scenes"):
            fit_mlp(train, config=mlp.BEHAVIOUR_CLONING)
        with pytest.raises(InvalidParameter, match="no seeds"):
            fit_mlp(train, seeds=())
        with pytest.raises(UnknownName, match="unknown targets 'degrees'; known: ranges, zscore"):
            MlpConfig(targets="degrees")
        with pytest.raises(InvalidParameter, match="epochs must be at least 1, not 0"):
            MlpConfig(epochs=0)
        with pytest.raises(InvalidParameter, match="dropout"):
            MlpConfig(dropout=1.0)


class TestWithoutTraining:
    @pytest.mark.parametrize("alpha", [0.5, 100.0])
    def test_linear_is_ridge(self, train, held_out, alpha):
        scaler = StandardScaler().fit(train.embeddings.double().numpy())
        ridge = Ridge(alpha=alpha).fit(
            scaler.transform(train.embeddings.double().numpy()), train.actions.double().numpy()
        )
        expected = ridge.predict(scaler.transform(held_out.embeddings.double().numpy()))
        assert np.allclose(fit_linear(train, alphas=(alpha,)).predict(held_out)[0], expected, atol=1e-4)

    def test_the_penalty_is_chosen_on_validation_scenes(self, held_out):
        few, held_out = (
            dataclasses.replace(data, actions=data.actions[:, 1:].expand(-1, 2))
            for data in (make(8, 5, noise=0.3), held_out)
        )
        alphas = (0.01, 1.0, 30.0, 1e5)
        scale = few.actions.std(0, correction=0)
        errors = [float((mse(fit_linear(few, alphas=(a,)), held_out) / scale**2).mean()) for a in alphas]
        assert fit_linear(few, held_out, alphas).alpha == alphas[int(np.argmin(errors))] == 30.0
        assert fit_linear(few, alphas=alphas).alpha == 30.0

    def test_knn_agrees_with_scikit_learn(self, train, held_out):
        scaler = StandardScaler().fit(train.embeddings.numpy())
        theirs = KNeighborsRegressor(7, metric="cosine", algorithm="brute")
        theirs.fit(scaler.transform(train.embeddings.numpy()), train.actions.numpy())
        expected = theirs.predict(scaler.transform(held_out.embeddings.numpy()))
        assert np.allclose(fit_knn(train, k=7).predict(held_out)[0], expected, atol=1e-4)

    def test_baselines_by_hand(self, train):
        actions = torch.tensor([[1.0, 10], [2, 20], [3, 30], [4, 40]])
        data = Labelled(torch.zeros(4, 1), actions, ("a", "a", "b", "c"))
        mean = train.actions.mean(0)
        assert torch.equal(fit_mean(train).predict(data)[0], mean.expand(4, 2))
        assert torch.equal(fit_last(train).predict(data)[0], torch.stack([mean, actions[0], mean, mean]))

    def test_bad_numbers_are_refused(self, train):
        with pytest.raises(InvalidParameter, match="k must be 1 to 400"):
            fit_knn(train, k=401)
        with pytest.raises(InvalidParameter, match="penalties must be positive"):
            fit_linear(train, alphas=(0.0,))


@pytest.mark.parametrize("name", [*PROBES, *BASELINES])
def test_every_probe_takes_constant_features_and_scenes_of_one_frame(name, train):
    flat = Labelled(torch.ones(60, 5), train.actions[:60], train.scenes[:60])
    flat.embeddings[:, :2] = train.embeddings[:60, :2]
    lone = Labelled(flat.embeddings[:1], flat.actions[:1], ("scene-0999",))
    probe = {**PROBES, **BASELINES}[name](flat, flat)
    out = probe.predict(lone)
    assert out.shape == (len(probe.seeds), 1, 2)
    assert out.isfinite().all()


class TestCollect:
    def test_frames_without_an_action_are_left_out(self):
        scenes = [scene("a", [[1, 2, 9], [np.nan, 0, 9], [3, 4, np.nan]]), scene("b", [[5, 6, 9]])]
        embeddings = {"a": torch.arange(6.0).view(3, 2), "b": torch.tensor([[7.0, 8]])}
        found = collect(scenes, embeddings)
        assert found.scenes == ("a", "a", "b")
        assert found.actions.tolist() == [[1, 2], [3, 4], [5, 6]]
        assert found.embeddings.tolist() == [[0, 1], [4, 5], [7, 8]]

    def test_the_action_before_is_that_of_the_frame_before(self):
        scenes = [scene("a", [[1, 2, 9], [np.nan, 0, 9], [3, 4, 9], [5, 6, 9], [7, 8, 9]]), scene("b", [[0, 1, 9]])]
        found = collect(scenes, {"a": torch.zeros(5, 1), "b": torch.zeros(1, 1)})
        assert found.actions[:, 0].tolist() == [1, 3, 5, 7, 0]
        told = fit_last(found).predict(found)[0, :, 0]
        mean = float(found.actions.mean(0)[0])
        assert told.tolist() == pytest.approx([mean, mean, 3, 5, mean]), (
            "not known: at the start, and after an unknown one"
        )

    def test_some_frames_alone(self):
        scenes = [scene("a", [[t, -t, 9] for t in range(5)])]
        found = collect(scenes, {"a": torch.arange(2.0)[:, None]}, every=3)
        assert found.actions[:, 0].tolist() == [1, 4], "the last frame, and every third before it"
        assert found.before[:, 0].tolist() == [0, 3], "whether or not that frame is taken"
        with pytest.raises(InvalidShape, match="a has 5 frames, 2 of them taken, but 5 embeddings"):
            collect(scenes, {"a": torch.zeros(5, 1)}, every=3)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(InvalidParameter, match="no embeddings of a"):
            collect([scene("a", [[1, 2, 3]])], {})
        with pytest.raises(InvalidShape, match="a has 1 frames but 2 embeddings"):
            collect([scene("a", [[1, 2, 3]])], {"a": torch.zeros(2, 4)})
        with pytest.raises(InvalidParameter, match="no frame of 1 scenes has a known action"):
            collect([scene("a", [[np.nan, 2, 3]])], {"a": torch.zeros(1, 4)})
        with pytest.raises(InvalidShape, match="embedding of row 1, in b, is NaN"):
            Labelled(torch.tensor([[0.0], [np.nan]]), torch.zeros(2, 2), ("a", "b"))
        with pytest.raises(InvalidAction, match="action of row 0, in a"):
            Labelled(torch.zeros(1, 3), torch.tensor([[0.0, np.inf]]), ("a",))
        with pytest.raises(InvalidShape, match=r"not \(\(2, 3\), \(2, 3\)\) and 2"):
            Labelled(torch.zeros(2, 3), torch.zeros(2, 3), ("a", "b"))
