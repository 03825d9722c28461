"""The Clockwork VAE has the reference's sizes and start, predicts open loop, and refuses what does not fit."""

import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import encoders.cwvae.model
from encoders import Batch, check_encoder, load_encoder, make_encoder
from encoders.cwvae.cell import Gaussian, gaussian_entropy, gaussian_kl, gaussian_nll
from encoders.cwvae.model import ClockworkVAE, block_sums
from foundation.errors import UserError
from foundation.presets import read_preset

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL_FRAMES = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}


def small(**options: object) -> ClockworkVAE:
    torch.manual_seed(0)
    model = make_encoder("cwvae_debug", **SMALL_FRAMES | options)
    assert isinstance(model, ClockworkVAE)
    return model


def random_clips(model: ClockworkVAE, count: int, length: int) -> Tensor:
    height, width, channels = model.frame_shape
    return torch.rand(count, length, channels, height, width, generator=torch.Generator().manual_seed(1))


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture(scope="module")
def full() -> ClockworkVAE:
    torch.manual_seed(0)
    return make_encoder("cwvae")


def test_the_preset_cwvae_has_the_reference_s_parameter_counts(full: ClockworkVAE) -> None:
    assert parameters(full) == 34_396_627
    assert parameters(full.encoder) == 690_144
    assert parameters(full.dense) == 6_102_048
    assert [parameters(cell) for cell in full.cells] == [7_707_600] * 3
    assert parameters(full.decoder_input, full.decoder) == 4_481_635


@pytest.mark.parametrize(("channels", "count"), [(3, 12_470_147), (1, 12_466_817)])
def test_the_preset_cwvae_small_has_the_reference_s_parameter_count(channels: int, count: int) -> None:
    assert parameters(make_encoder("cwvae_small", frame_shape=[64, 64, channels])) == count


PUBLISHED = {
    "cwvae": (0.4, 100, 800, 1e-4),
    "cwvae_mazes": (0.1, 20, 200, 3e-4),
    "cwvae_mmnist": (1.0, 20, 200, 3e-4),
}
"""The reference's settings by data set: frame_stddev, stochastic, deterministic and hidden, learning rate."""


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_published_presets_have_the_reference_s_settings(preset: str) -> None:
    values = read_preset("encoder", preset)
    model, training = values["model"], values["training"]
    stddev, stochastic, deterministic, rate = PUBLISHED[preset]
    assert (model["frame_stddev"], model["stochastic"], model["deterministic"], model["hidden"]) == (
        stddev,
        stochastic,
        deterministic,
        deterministic,
    )
    assert (training["learning_rate"], training["batch_size"], training["adam_epsilon"], training["gradient_clip"]) == (rate, 50, 1e-4, 1e4)
    assert (model["levels"], model["factor"], model["clip_length"]) == (3, 6, 100)
    made = make_encoder(preset).hyperparameters
    assert (made.dense_layers, made.dense_units, made.min_stddev, made.std_offset) == (3, 1000, 1e-4, "hidden")


@pytest.mark.parametrize(("preset", "channels", "count"), [("cwvae_mazes", 3, 12_470_147), ("cwvae_mmnist", 1, 12_466_817)])
def test_the_presets_of_mazes_and_mmnist_have_the_reference_s_parameter_counts(preset: str, channels: int, count: int) -> None:
    assert parameters(make_encoder(preset, frame_shape=[64, 64, channels])) == count


def test_weights_start_as_keras_would_have_them(full: ClockworkVAE) -> None:
    for module in full.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.95 * bound < module.weight.abs().max() <= bound * 1.0001
            assert not module.bias.any()
    for cell in full.cells:
        recurrent = cell.gru.weight_hh
        torch.testing.assert_close(recurrent.mT @ recurrent, torch.eye(800), rtol=0, atol=1e-4)
        assert not cell.gru.bias_ih.any()
        assert not cell.gru.bias_hh.any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"filter": "partial"},
        {"filter": "bottom", "std_offset": "presoftplus"},
        {"use_obs": [True, False, False]},
        {"levels": 1},
        {"action_size": 3},
    ],
    ids=str,
)
def test_it_keeps_the_contract(options: dict) -> None:
    check_encoder(small(**options))


@pytest.mark.parametrize("preset", ["cwvae_debug", "cwvae_tiny"])
def test_the_presets_keep_the_contract_at_their_own_size(preset: str) -> None:
    torch.manual_seed(0)
    check_encoder(make_encoder(preset))


def test_the_kl_of_equal_gaussians_is_zero_and_others_are_torch_s() -> None:
    torch.manual_seed(0)
    one, other = (Gaussian(torch.randn(50), torch.rand(50) + 0.1) for _ in range(2))
    assert not gaussian_kl(one, one).any()
    normal, another = (torch.distributions.Normal(*gaussian) for gaussian in (one, other))
    torch.testing.assert_close(gaussian_kl(one, other), torch.distributions.kl_divergence(normal, another))
    torch.testing.assert_close(gaussian_entropy(one.stddev), normal.entropy())
    likelihood = torch.distributions.Normal(one.mean, 0.4).log_prob(other.mean)
    torch.testing.assert_close(gaussian_nll(one.mean, other.mean, 0.4), -likelihood.sum())


def test_levels_that_do_not_see_the_frames_have_no_kl() -> None:
    model = small(use_obs=[True, False, False])
    terms = model.loss(Batch(random_clips(model, 2, 8)), 0)
    assert terms["kl_0"] > 0
    assert terms["kl_1"] == terms["kl_2"] == 0
    assert terms["entropy_prior_2"] == terms["entropy_posterior_2"]


def test_the_terms_add_up_in_nats_a_frame() -> None:
    model = small(beta=[2.0, 3.0, 0.5])
    terms = model.loss(Batch(random_clips(model, 2, 8)), 0)
    kls = [terms[f"kl_{level}"] for level in range(3)]
    torch.testing.assert_close(terms["kl"], sum(kls))
    torch.testing.assert_close(terms["loss"].detach(), terms["nll"] + 2 * kls[0] + 3 * kls[1] + 0.5 * kls[2])
    torch.testing.assert_close(terms["negative_elbo"], terms["nll"] + terms["kl"])
    # 8-bit values lie 1/255 apart: a density of 1 on [0, 1] is log2(255) bits
    torch.testing.assert_close(terms["bits_per_dim"], terms["negative_elbo"] / (16 * 16 * 3) / math.log(2) + math.log2(255))


def test_the_kl_of_all_units_adds_up_to_the_loss_s() -> None:
    model = small()
    frames = random_clips(model, 2, 7)
    torch.manual_seed(3)
    terms = model.loss(Batch(frames), 0)
    torch.manual_seed(3)
    kl = model.kl_per_unit(frames)
    assert {name: tuple(units.shape) for name, units in kl.items()} == {"bottom": (4,), "means": (12,)}
    for level, units in enumerate(kl["means"].unflatten(0, (3, 4))):
        torch.testing.assert_close(units.sum(), terms[f"kl_{level}"])


def test_blocks_are_summed_and_the_last_is_filled_up_at_its_end() -> None:
    embedded = torch.arange(7.0)[None, :, None]
    assert block_sums(embedded, 3).flatten().tolist() == [3, 12, 6]
    assert [block_sums(torch.ones(1, 100, 1), size).flatten()[-1] for size in (1, 6, 36)] == [1, 4, 28]


def test_one_level_alone_decodes_what_it_reads_into_its_reconstruction() -> None:
    model = small(levels=1)
    frames = random_clips(model, 2, 5)
    decoded = model.decode(model.encode_clip(frames).flatten(0, 1)).unflatten(0, (2, 5))
    torch.testing.assert_close(decoded, model.reconstruct(frames))


def test_training_comes_to_reconstruct_better_than_the_mean_frame() -> None:
    model = small(frame_stddev=0.1, filters=8, levels=2)
    frames = torch.rand(4, 8, 3, 1, 1).expand(4, 8, 3, 16, 16) * torch.linspace(0.2, 1, 16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model.loss(Batch(frames), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.reconstruct(frames) - frames).square().mean()
    assert error < (frames.mean((0, 1)) - frames).square().mean() / 2


def test_predictions_see_the_context_and_nothing_after_it() -> None:
    model = small()
    frames = random_clips(model, 2, 8)
    changed = [frames.clone(), frames.clone()]
    changed[0][:, 4:] = 0
    changed[1][:, 3] = 0
    one, late, early = (
        next(model.open_loop(x, context=4, horizon=9, generator=torch.Generator().manual_seed(5))) for x in (frames, *changed)
    )
    assert one.shape == (2, 13, 3, 16, 16)
    assert torch.equal(one, late)
    assert not torch.allclose(one[:, 4:], early[:, 4:])
    assert 0 <= one.min() <= one.max() <= 1


def test_within_the_context_predictions_are_reconstructions() -> None:
    model = small(mean_only=True)
    frames = random_clips(model, 2, 8)
    predicted = next(model.open_loop(frames, context=8, horizon=3))
    torch.testing.assert_close(predicted[:, :8], model.reconstruct(frames))


def test_samples_differ_and_the_same_seed_draws_the_same() -> None:
    model = small()
    frames = random_clips(model, 2, 4)
    draws = [list(model.open_loop(frames, 4, 4, num_samples=3, generator=torch.Generator().manual_seed(7))) for _ in range(2)]
    assert len(draws[0]) == 3
    assert not torch.allclose(draws[0][0], draws[0][1])
    assert all(torch.equal(one, again) for one, again in zip(*draws, strict=True))


def test_a_level_can_be_kept_from_the_context() -> None:
    model = small()
    frames = random_clips(model, 2, 4)

    def predicted(mask: tuple[bool, ...] | None) -> Tensor:
        return next(model.open_loop(frames, 4, 4, use_obs=mask, generator=torch.Generator().manual_seed(7)))

    default, everything, bottom = predicted(None), predicted((True, True, True)), predicted((True, True, False))
    assert torch.equal(default, everything)
    assert not torch.allclose(default, bottom)


def test_long_predictions_are_decoded_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    frames = random_clips(model, 2, 4)
    whole = next(model.open_loop(frames, 4, 30, generator=torch.Generator().manual_seed(7)))
    sizes: list[int] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda latents: (sizes.append(len(latents)), decode(latents))[1])
    monkeypatch.setattr(encoders.cwvae.model, "DECODED_AT_ONCE", 16)
    pieces = next(model.open_loop(frames, 4, 30, generator=torch.Generator().manual_seed(7)))
    torch.testing.assert_close(pieces, whole)
    assert sizes == [16, 16, 16, 16, 4]


def test_a_sample_is_a_clip_of_the_training_length() -> None:
    assert small().sample(3).shape == (3, 8, 3, 16, 16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 6, "horizon": 2}, r"context of 6 frames \(open_loop_ctx\) must be divisible by factor\^\(levels-1\) = 4"),
        ({"context": 12, "horizon": 2}, "no longer than the clips"),
        ({"context": 4, "horizon": 2, "use_obs": [True, False]}, "use_obs names 2 levels, the model has 3"),
        ({"context": 4, "horizon": 2, "actions": torch.zeros(2, 5, 2)}, "6 frames need as many actions, got 5"),
    ],
)
def test_an_open_loop_that_does_not_fit_is_refused_in_words(options: dict, said: str) -> None:
    model = small(action_size=2)
    with pytest.raises(ValueError, match=said):
        model.open_loop(random_clips(model, 2, 8), **options)


def test_a_level_trained_blind_cannot_be_made_to_see() -> None:
    model = small(use_obs=[True, True, False])
    with pytest.raises(ValueError, match="asks level 2 to see the frames, but it was trained without"):
        model.open_loop(random_clips(model, 2, 8), 4, 4, use_obs=[True, True, True])


def test_actions_change_latents_and_predictions_and_are_asked_for() -> None:
    model = small(action_size=2)
    frames, actions = random_clips(model, 2, 8), torch.randn(2, 12, 2)
    with pytest.raises(ValueError, match="takes actions of length 2, and these frames have none"):
        model.loss(Batch(frames), 0)
    with pytest.raises(ValueError, match="takes actions of length 2, got 3: set action_size to that"):
        model.loss(Batch(frames, torch.zeros(2, 8, 3)), 0)
    assert not torch.allclose(model.encode_clip(frames, actions[:, :8]), model.encode_clip(frames))
    assert torch.equal(model.encode_clip(frames, torch.zeros(2, 8, 2)), model.encode_clip(frames))
    acted, still = (next(model.open_loop(frames, 4, 8, actions=a, generator=torch.Generator().manual_seed(7))) for a in (actions, None))
    assert not torch.allclose(acted[:, 4:], still[:, 4:])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"use_obs": [True, True]}, "use_obs has 2 values for 3 levels"),
        ({"use_obs": [False] * 3}, "at least one level"),
        ({"beta": [1.0]}, "beta has 1 values for 3 levels"),
        ({"beta": -1.0}, "beta must be 0 or more"),
        ({"levels": 0}, "levels must be 1 or more"),
        ({"kl_balance": 1.5}, "kl_balance must be from 0 to 1"),
        ({"frame_stddev": 0.0}, "frame_stddev"),
        ({"frame_shape": [64, 48, 3]}, "make frames of 16x16, and frame_shape is"),
        ({"encoder_kernels": [14, 4]}, "leave nothing"),
        ({"encoder_kernels": [4, 4, 4]}, "as many"),
        ({"filter": "late"}, "'model.filter' must be one of delayed, partial, bottom"),
    ],
)
def test_hyperparameters_that_do_not_fit_are_refused_in_words(wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        small(**wrong)


def test_the_debug_preset_trains_and_loads(video_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    options = ["--store", video_store, "--run", run, "--threads", 1, "--device", "cpu", "--model.kl-balance", 0.8]
    monkeypatch.setattr(sys, "argv", ["train_encoder.py", "cwvae_debug", *map(str, options), "--model.beta", "1", "0.5", "0.5"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(REPOSITORY / "train_encoder.py"), run_name="__main__")
    artifact = load_encoder(run)
    assert artifact.info.name == "cwvae"
    assert artifact.model.hyperparameters.beta == (1.0, 0.5, 0.5)
    assert artifact.info.latents == {"bottom": [20], "levels": [60], "means": [12]}
    assert (run / "pictures" / "traversals.png").exists()
