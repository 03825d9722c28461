"""The convolutional VAE is the reference's where it should be, and mends what the reference has wrong."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from encoders import Batch, make_encoder
from encoders.conv.stack import (
    Layer,
    MirroredConvolution,
    MirroredTransposedConvolution,
    SubpixelConvolution,
    parse_stack,
)
from encoders.conv.vae import (
    LOG_VARIANCE_BOUND,
    ConvVAE,
    ConvVAEHyperparameters,
    cyclical,
    gaussian_kl,
)
from foundation.errors import UserError


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def multiplications(model: ConvVAE) -> int:
    """Count the multiply-accumulates that encoding one frame takes."""
    counted = []

    def count(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        positions = output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        counted.append(positions * module.weight.numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model.encode(torch.zeros(1, 3, 64, 64), {})
    return sum(counted)


def test_the_preset_conv_vae_has_the_reference_s_parameter_counts() -> None:
    model = make_encoder("conv_vae")
    assert parameters(model.encoder, model.to_posterior) == 8_816_000
    assert parameters(model.decoder, model.from_latents) == 5_208_259
    assert parameters(model) == 14_024_259
    assert [parameters(layer) for layer in model.encoder if parameters(layer)] == [2_432, 18_496, 36_928, 73_856, 295_168]


def test_the_reference_s_stem_is_linear_and_its_other_convolutions_are_not() -> None:
    activated = [isinstance(layer, nn.ReLU) for layer in make_encoder("conv_vae").encoder]
    assert activated == [False, *[False, True] * 4]


def test_weights_are_named_as_in_files_where_a_margin_was_a_layer() -> None:
    model = make_encoder("conv_vae")
    named = {name.rpartition(".")[0] for name in model.state_dict()} - {"to_posterior", "from_latents"}
    assert named == {f"encoder.{place}" for place in (0, 1, 4, 7, 10)} | {f"decoder.{place}" for place in (1, 4, 7, 10, 12)}


@pytest.mark.parametrize(("preset", "most"), [("conv_vae_small", 60e6), ("conv_vae_tiny", 12e6), ("conv_vae", 170e6)])
def test_encoding_a_frame_costs_no_more_than_the_preset_promises(preset: str, most: float) -> None:
    assert multiplications(make_encoder(preset)) <= most


def test_kernels_start_glorot_uniform_and_biases_zero() -> None:
    torch.manual_seed(0)
    model = make_encoder("conv_vae_small")
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.95 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()


def test_a_strided_convolution_pads_at_the_bottom_and_right_as_tensorflow_does() -> None:
    convolution = MirroredConvolution(Layer(1, 1, 3, 2))
    nn.init.ones_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    convolved = convolution(x.flip(2, 3)).flip(2, 3)
    assert convolved.shape == (1, 1, 2, 2)
    assert convolved[0, 0, 0, 0] == x[0, 0, :3, :3].sum()
    assert convolved[0, 0, 1, 1] == x[0, 0, 2:, 2:].sum()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (5, 4), (7, 4)])
def test_a_transposed_convolution_is_the_adjoint_of_the_padded_convolution(kernel: int, stride: int) -> None:
    down, up = MirroredConvolution(Layer(3, 2, kernel, stride)), MirroredTransposedConvolution(Layer(2, 3, kernel, stride))
    up.weight = down.weight
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.bias)
    x, y = torch.randn(1, 3, 8, 8), torch.randn(1, 2, 8 // stride, 8 // stride)
    assert up(y).shape == x.shape
    torch.testing.assert_close((down(x) * y).sum(), (up(y) * x).sum())


@pytest.mark.parametrize(("stride", "channels"), [(2, 5), (4, 3), (8, 1)])
def test_a_subpixel_convolution_is_the_transposed_one(stride: int, channels: int) -> None:
    layer = SubpixelConvolution(Layer(6, channels, 2 * stride, stride)).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, stride, stride // 2)
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("preset", ["conv_vae_small", "conv_vae_tiny"])
def test_only_the_few_channels_of_a_picture_are_made_in_blocks(preset: str) -> None:
    kinds = [type(layer) for layer in make_encoder(preset).decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert kinds == [nn.ConvTranspose2d, nn.ConvTranspose2d, SubpixelConvolution]


def padded(x_NCHW: torch.Tensor, words: str, weights: list[torch.Tensor], transposed: bool) -> torch.Tensor:
    """Apply a stack whose paddings are copies and whose crops are slices, with nothing mirrored."""
    layers = parse_stack(words, x_NCHW.shape[1], last=3 if transposed else None)
    for index, layer in enumerate(layers):
        weight, bias = weights[2 * index : 2 * index + 2]
        total = layer.kernel - layer.stride
        before, after = total // 2, total - total // 2
        if transposed and layer.stride > 1:
            height, width = (size * layer.stride for size in x_NCHW.shape[2:])
            full = F.conv_transpose2d(x_NCHW, weight, bias, layer.stride)
            x_NCHW = full[:, :, before : before + height, before : before + width]
        else:
            x_NCHW = F.conv2d(F.pad(x_NCHW, (before, after, before, after)), weight, bias, layer.stride)
        if index < len(layers) - 1 or not transposed:
            x_NCHW = x_NCHW if index == 0 and not transposed else F.relu(x_NCHW)
    return x_NCHW.sigmoid() if transposed else x_NCHW


@pytest.mark.parametrize(
    "stacks",
    [
        {},
        {"encoder": "8k4s1 8k3s2 8k5s2 16k6s4", "decoder": "16 8k6s4 8k5s2 8k3s2 8k4s1 k3s1"},
        {"encoder": "8k4s2 8k4s4", "decoder": "16 8k4s4 k4s2"},
        {"encoder": "8k4s4 8k4s2", "decoder": "16 8k4s2 k8s4"},
    ],
    ids=["reference", "odd", "even", "subpixel"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reconstructions_and_gradients_are_those_of_copied_margins(stacks: dict[str, str], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = make_encoder("conv_vae", latent_dim=8, frame_shape=[32, 48, 3], **stacks).to(dtype).to(memory_format=torch.channels_last)
    x, h = torch.rand(2, 3, 32, 48, dtype=dtype), model.hyperparameters
    mean = model.to_posterior(padded(x, h.encoder, list(model.encoder.parameters()), False).flatten(1))[:, :8]
    laid_out = model.from_latents(mean).view(2, *model.laid_out)
    wanted = padded(laid_out, h.decoder.partition(" ")[2], list(model.decoder.parameters()), True)
    found = model.decode(model.to_posterior(model.encoder(x).flatten(1))[:, :8])
    torch.testing.assert_close(found, wanted.float())
    gradients = [torch.autograd.grad((made * x).square().sum(), list(model.parameters())) for made in (found, wanted)]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("half", [3, 7])
@pytest.mark.parametrize("freeze", [0, 5, 12])
def test_beta_follows_a_simulation_of_the_schedule_step_by_step(half: int, freeze: int) -> None:
    beta, rising = 0.0, False
    for step in range(60):
        if step >= freeze:
            phase = (step - freeze) % (2 * half)
            if phase == 0:
                beta, rising = 0.0, True
            elif phase == half:
                rising = False
        assert cyclical(step, half, freeze) == pytest.approx(beta, abs=1e-9)
        if rising:
            beta += 1 / half


def test_the_freeze_ends_when_it_says_and_no_cycle_means_constant_beta() -> None:
    assert [cyclical(step, None, 3) for step in range(5)] == [0, 0, 0, 1, 1]
    assert cyclical(0, None, 0) == 1
    assert cyclical(6, 5, 5) > 0


def test_a_reference_beta_gives_the_same_loss_as_its_elbo_equivalent() -> None:
    torch.manual_seed(0)
    reference = ConvVAE(ConvVAEHyperparameters(beta=2.0, beta_unit="reference"))
    assert reference.final_beta == 16.0
    equivalent = ConvVAE(ConvVAEHyperparameters(beta=16.0))
    equivalent.load_state_dict(reference.state_dict())
    batch = Batch(torch.rand(2, 1, 3, 64, 64))
    losses = []
    for model in (reference, equivalent):
        torch.manual_seed(1)
        losses.append(model.loss(batch, 0)["loss"])
    assert losses[0] == losses[1]


def test_the_loss_is_the_reference_s_times_a_constant() -> None:
    torch.manual_seed(0)
    model = ConvVAE(ConvVAEHyperparameters(beta=2.0, beta_unit="reference"))
    x = torch.rand(2, 3, 64, 64)
    torch.manual_seed(1)
    loss = model.loss(Batch(x[:, None]), 0)["loss"]
    torch.manual_seed(1)
    mean, log_variance = model.posterior(x)
    restored = model.decode(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
    squared_error = (x - restored).square().sum((1, 2, 3)) / 4096
    kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1) / 256
    torch.testing.assert_close(loss * 2 / 4096, (squared_error + 2.0 * kl).mean())


def test_the_negative_elbo_is_that_of_a_gaussian_at_the_final_beta_whatever_the_step() -> None:
    model = make_encoder("conv_vae_tiny", beta=0.3, half_cycle_steps=10, freeze_steps=5)
    batch = Batch(torch.rand(2, 1, 3, 64, 64))
    torch.manual_seed(0)
    frozen = model.loss(batch, 0)
    torch.manual_seed(0)
    risen = model.loss(batch, 15)
    assert frozen["beta"] == 0
    assert risen["beta"] == pytest.approx(0.3)
    assert frozen["negative_elbo"] == risen["negative_elbo"]
    torch.manual_seed(0)
    mean, log_variance = model.posterior(batch.frames[:, 0])
    likelihood = torch.distributions.Normal(model.decode(mean + torch.exp(log_variance / 2) * torch.randn_like(mean)), math.sqrt(0.3))
    expected = gaussian_kl(mean, log_variance).sum(1) - likelihood.log_prob(batch.frames[:, 0]).sum((1, 2, 3))
    torch.testing.assert_close(risen["negative_elbo"], expected.mean(), rtol=1e-4, atol=1e-2)


def test_huge_activations_give_a_finite_loss_and_a_gradient_that_leads_back() -> None:
    model = make_encoder("conv_vae_tiny")
    with torch.no_grad():
        model.to_posterior.bias[32:] = 30.0
    terms = model.loss(Batch(torch.rand(2, 1, 3, 64, 64)), 0)
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"])
    assert (model.to_posterior.bias.grad[32:] > 0).all()
    assert model.posterior(torch.rand(1, 3, 64, 64))[1].max() <= LOG_VARIANCE_BOUND


def test_frames_need_not_be_square() -> None:
    model = make_encoder("conv_vae_tiny", frame_shape=[32, 48, 3])
    x = torch.rand(2, 1, 3, 32, 48)
    assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"frame_shape": [60, 64, 3]}, "multiples of 16"),
        ({"encoder": "16k4s2 32x4"}, "'32x4'"),
        ({"encoder": "16k4s2"}, "strides down 2 times"),
        ({"decoder": "128 64k4s2 32k4s2 16k4s2 3k4s2"}, "'3k4s2'"),
        ({"encoder": "8k0s16"}, "'8k0s16'"),
        ({"decoder": "128 64k4s2 32k4s2 k2s4"}, "no smaller than the stride"),
        ({"decoder": "64k4s2 32k4s2 k8s4"}, "begins with a number of channels"),
        ({"beta": 0}, "beta"),
        ({"half_cycle_steps": 0}, "half_cycle_steps"),
    ],
)
def test_hyperparameters_that_do_not_fit_are_refused_in_words(wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder("conv_vae_tiny", **wrong)
