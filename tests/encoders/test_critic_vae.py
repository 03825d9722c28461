"""A VAE that is told a frame's value by a critic that stays as it is."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from encoders import Batch, Decodes, Generates, GivesMasks, GivesValue, check_encoder, make_encoder
from encoders.critic.hyperparameters import CriticHyperparameters
from encoders.critic.model import Critic
from encoders.critic_vae.hyperparameters import LEVEL_WEIGHTS, CriticVAEHyperparameters
from encoders.critic_vae.model import CriticVAE, ms_ssim
from foundation.errors import UserError

SIZES = {"frame_shape": (32, 32, 3), "latent_dim": 4, "channels": (4, 8)}


class ByBrightness(Critic):
    """A critic to whom a frame is worth as much as it is bright."""

    def value(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return frames.mean((2, 3, 4))


def vae(**options: object) -> CriticVAE:
    torch.manual_seed(0)
    critic = ByBrightness(CriticHyperparameters(frame_shape=(32, 32, 3)))
    return CriticVAE(CriticVAEHyperparameters(**{**SIZES, **options}), critic)


def frames(count: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, 1, 3, 32, 32)


def test_a_critic_vae_keeps_the_contract() -> None:
    check_encoder(vae())
    assert all(isinstance(vae(), protocol) for protocol in (Generates, Decodes, GivesValue, GivesMasks))
    assert vae().latents == {"all": (5,), "mean": (4,), "value": (1,)}


def test_the_critic_stays_as_it_is_in_training() -> None:
    model = vae().train()
    model.loss(Batch(frames()), 0)["loss"].backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.critic.parameters())
    assert not model.critic.training


@torch.no_grad()
def test_the_loss_is_distortion_and_weighted_kl() -> None:
    model, some = vae(kl_weight=0.25).eval(), frames()
    torch.manual_seed(2)
    found = {name: float(term) for name, term in model.loss(Batch(some), 0).items()}
    mean, log_variance = model.posterior(some[:, 0])
    posterior = Normal(mean, torch.exp(log_variance / 2))
    torch.manual_seed(2)
    drawn = posterior.mean + posterior.stddev * torch.randn(6, 4)
    units = kl_divergence(posterior, Normal(0.0, 1.0))
    assert found["distortion"] == pytest.approx(1 - float(ms_ssim(model.at_value(drawn, some.mean((1, 2, 3, 4))), some[:, 0])))
    assert found["kl"] == pytest.approx(float(units.sum(1).mean()), rel=1e-5)
    torch.testing.assert_close(model.kl_per_unit(some)["mean"], units.mean(0))
    assert found["loss"] == pytest.approx(found["distortion"] + 0.25 * found["kl"])
    assert found["negative_elbo"] == pytest.approx(found["loss"] / 0.25)


def test_frames_of_high_middle_and_low_value_are_learned_from_alike() -> None:
    values = torch.tensor([0.9] + [0.5] * 4 + [0.1] * 40 + [0.33] * 15)
    drawn = values[vae()._balanced(values)]
    assert {round(float(value), 2): int((drawn == value).sum()) for value in drawn.unique()} == {0.1: 10, 0.5: 10, 0.9: 10}
    alone = torch.full((8,), 0.3)
    assert len(vae()._balanced(alone)) == 4


@torch.no_grad()
def test_the_same_frames_at_other_values() -> None:
    model, some = vae().eval(), frames(3)[:, 0]
    strip = model.at_values(some, torch.tensor([0.0, 0.5, 1.0]))
    assert strip.shape == (3, 3, 3, 32, 32)
    latents, _ = model.encode(some, {}, latents="mean")
    middle = model.decode(torch.cat([latents, torch.full((3, 1), 0.5)], 1))
    assert torch.allclose(strip[:, 1], middle, atol=1e-6)
    value = model.encode(some, {})[0][:, -1]
    assert torch.allclose(value, some.mean((1, 2, 3)))
    own = torch.stack([model.at_values(one[None], worth[None])[0, 0] for one, worth in zip(some, value, strict=True)])
    assert torch.allclose(own, model.reconstruct(some[:, None])[:, 0], atol=1e-5)


@torch.no_grad()
def test_masks_are_what_would_differ_if_the_frame_were_worth_nothing() -> None:
    model, some = vae().eval(), frames(3)
    model.largest_difference.fill_(1e-3)
    value = some.mean((2, 3, 4))[:, 0]
    strips = [model.at_values(one, torch.stack([worth, torch.zeros(())]))[0].numpy() for one, worth in zip(some, value, strict=True)]
    grey = [np.einsum("chw,c->hw", np.abs(at - nothing), [0.2989, 0.587, 0.114]) for at, nothing in strips]
    assert np.allclose(model.masks(some)[:, 0].numpy(), np.clip(np.stack(grey) / 1e-3, 0, 1), atol=1e-3)


def test_masks_are_scaled_by_the_mean_of_the_largest_differences_in_training() -> None:
    model = vae(balanced=False).train()
    seen = []
    for _ in range(3):
        with torch.no_grad():
            mean = model.posterior(frames().flatten(0, 1))[0]
            seen.append(float(model.differences(mean, model.value(frames()).flatten()).amax((1, 2)).mean()))
        model.loss(Batch(frames()), 0)
    assert float(model.largest_difference) == pytest.approx(np.mean(seen), rel=1e-4)
    kept = float(model.largest_difference)
    model.eval().loss(Batch(frames()), 0)
    assert float(model.largest_difference) == kept


def test_ms_ssim_is_that_of_a_loop_over_windows() -> None:
    generator = np.random.default_rng(0)
    x = generator.random((2, 16, 16))
    y = 0.7 * x + 0.3 * generator.random((2, 16, 16))
    expected, last = 1.0, LEVEL_WEIGHTS[-1]
    for level, weight in enumerate(LEVEL_WEIGHTS):
        side = 16 >> level
        coarse, beside = (one.reshape(2, side, 16 // side, side, 16 // side).mean((2, 4)) for one in (x, y))
        similarity, contrast = _ssim_by_windows(coarse, beside)
        expected *= (similarity if weight == last else contrast) ** weight
    found = ms_ssim(torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None])
    assert float(found) == pytest.approx(expected, rel=1e-9)


def _ssim_by_windows(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    similarities, contrasts = [], []
    for one, other in zip(x, y, strict=True):
        padded, beside = np.pad(one, 5), np.pad(other, 5)
        for row, column in np.ndindex(one.shape):
            p, q = (picture[row : row + 11, column : column + 11] for picture in (padded, beside))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            spread = (window * p * p).sum() - mean_p**2, (window * q * q).sum() - mean_q**2
            shared = (window * p * q).sum() - mean_p * mean_q
            contrasts.append((2 * shared + 0.03**2) / (sum(spread) + 0.03**2))
            similarities.append(contrasts[-1] * (2 * mean_p * mean_q + 0.01**2) / (mean_p**2 + mean_q**2 + 0.01**2))
    return float(np.mean(similarities)), float(np.mean(contrasts))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--model.critic RUN"),
        ({"kl_weight": 0}, "kl_weight"),
        ({"low_to": 0.5}, "rise"),
        ({"frame_shape": [40, 64, 3]}, "multiples of 16"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder("critic_vae", **options)


def test_a_critic_of_other_frames_or_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="frames of"):
        CriticVAE(CriticVAEHyperparameters(), Critic(CriticHyperparameters(frame_shape=(32, 32, 3))))
    with pytest.raises(ValueError, match="gives no value"):
        CriticVAE(CriticVAEHyperparameters(), make_encoder("pca"))


def test_similarity_is_never_taken_in_16_bits() -> None:
    torch.manual_seed(0)
    x = 0.8 + 0.02 * torch.rand(4, 3, 96, 96)
    y = (x + 0.004 * torch.randn_like(x)).requires_grad_(True)
    (wanted,) = torch.autograd.grad(ms_ssim(x, y), y)
    with torch.autocast("cpu", torch.bfloat16):
        low = ms_ssim(x, y)
    (found,) = torch.autograd.grad(low, y)
    assert torch.equal(low, ms_ssim(x, y))
    assert torch.equal(found, wanted)
