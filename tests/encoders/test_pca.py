"""PCA is exact, deterministic, and an ordinary encoder."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from encoders import Batch, make_encoder
from encoders.encoder import to_float
from encoders.pca.model import PCA


@pytest.fixture
def fitted(frames: np.ndarray) -> PCA:
    model = make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=5)
    model.fit(to_float(torch.from_numpy(frames)))
    return model


def test_components_are_those_of_a_full_decomposition(fitted: PCA, frames: np.ndarray) -> None:
    x = to_float(torch.from_numpy(frames)).flatten(1).double().numpy()
    _, singular, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(fitted.variances, singular[:5] ** 2 / len(x), rtol=1e-3)
    overlap = np.abs((fitted.components.double().numpy() * right[:5]).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)


def test_the_reconstruction_is_the_best_of_its_rank(fitted: PCA, frames: np.ndarray) -> None:
    x = to_float(torch.from_numpy(frames))
    flat = x.flatten(1).double().numpy()
    left, singular, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    best = np.clip(left[:, :5] * singular[:5] @ right[:5] + flat.mean(0), 0, 1)
    ours = fitted.reconstruct(x[:, None]).flatten(1).double().numpy()
    assert ((ours - flat) ** 2).mean() == pytest.approx(((best - flat) ** 2).mean(), rel=1e-4)


def test_the_likelihood_is_exact(frames: np.ndarray) -> None:
    model = make_encoder("pca", frame_shape=[4, 4, 3], latent_dim=3)
    x = to_float(torch.from_numpy(frames[:, ::4, ::4]))
    model.fit(x)
    w = model.components.double().T * (model.variances - model.noise).double().sqrt()
    covariance = (w @ w.T + float(model.noise) * torch.eye(48, dtype=torch.float64)).numpy()
    expected = -multivariate_normal(model.mean.double().numpy(), covariance).logpdf(x.flatten(1).double().numpy()).mean()
    assert float(model.loss(Batch(x[:, None]), 0)["negative_elbo"]) == pytest.approx(expected, rel=1e-3)


def test_fitting_twice_gives_the_same_bits_and_leaves_the_random_state_alone(frames: np.ndarray) -> None:
    x = to_float(torch.from_numpy(frames))
    models = [make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=5) for _ in range(2)]
    state = torch.get_rng_state()
    for model in models:
        model.fit(x)
    assert torch.equal(models[0].components, models[1].components)
    assert torch.equal(state, torch.get_rng_state())


def test_decoding_the_latents_gives_the_reconstruction(fitted: PCA, frames: np.ndarray) -> None:
    x = to_float(torch.from_numpy(frames[:8]))
    torch.testing.assert_close(fitted.decode(fitted.encode(x, {})[0]), fitted.reconstruct(x[:, None])[:, 0], atol=1e-4, rtol=1e-4)


def test_fewer_frames_than_components_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 64 frames"):
        make_encoder("pca").fit(torch.rand(64, 3, 64, 64))


def test_frames_that_are_all_alike_give_finite_latents() -> None:
    model = make_encoder("pca", frame_shape=[8, 8, 3], latent_dim=4)
    x = torch.full((16, 3, 8, 8), 0.5)
    model.fit(x)
    assert torch.isfinite(model.encode(x, {})[0]).all()
    assert torch.isfinite(model.reconstruct(x[:, None])).all()
