"""NVAE's parts give the numbers of slow versions, written here from the equations in float64."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from encoders.nvae.distributions import Gaussian, MixtureOfLogistics, PixelGaussian
from encoders.nvae.flows import Flow
from encoders.nvae.groups import Group
from encoders.nvae.hyperparameters import NVAEHyperparameters
from encoders.nvae.model import NVAE
from encoders.nvae.regularisation import SpectralNorms, convolutions_of, kernels, largest_gains

SIZES = {
    "frame_shape": (16, 8, 3),
    "encoder_channels": 4,
    "decoder_channels": 6,
    "blocks": 1,
    "preprocess_cells": 2,
    "postprocess_cells": 2,
    "scales": 2,
    "groups": (2, 2),
    "latent_channels": 3,
    "mixtures": 2,
    "squeeze_excite": True,
    "residual_posterior": True,
}


def random_mixture(spread: float, mixtures: int = 3, size: tuple[int, int] = (2, 2)) -> Tensor:
    return spread * torch.randn(2, 10 * mixtures, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def varied(**options: object) -> NVAE:
    """Make a small model in float64 whose normalisations, gains and biases matter."""
    torch.manual_seed(0)
    model = NVAE(NVAEHyperparameters(**SIZES | options)).double().eval()
    with torch.no_grad():
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("bias", "log_gain", "running_mean")):
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model


def slow_log_prob(parameters: Tensor, x: Tensor, bits: int = 8) -> float:
    """The log probability of one pixel's red, green and blue, given its 10 M parameters, from sigmoids and their differences."""
    mixtures, half = len(parameters) // 10, 1 / (2**bits - 1)
    weights, rest = parameters[:mixtures].softmax(0), parameters[mixtures:].view(3, 3, mixtures)
    total = torch.zeros((), dtype=torch.float64)
    for m in range(mixtures):
        c = rest[:, 2, m].tanh()
        shifts = [0.0, c[0] * x[0], c[1] * x[0] + c[2] * x[1]]
        probability = weights[m]
        for channel in range(3):
            mean, scale = rest[channel, 0, m] + shifts[channel], rest[channel, 1, m].clamp(min=-7).exp()
            above = torch.sigmoid((x[channel] + half - mean) / scale) if x[channel] < 0.999 else 1.0
            below = torch.sigmoid((x[channel] - half - mean) / scale) if x[channel] > -0.999 else 0.0
            probability = probability * (above - below)
        total = total + probability
    return float(total.log())


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("channel", range(3))
def test_the_mixture_s_likelihood_sums_to_one_over_all_values_of_a_channel(spread: float, channel: int) -> None:
    parameters = random_mixture(spread, size=(1, 1))[:1]
    of_channels = parameters[:, 3:].unflatten(1, (3, 3, 3))
    for other in {0, 1, 2} - {channel}:
        # certain to be at the upper edge, whatever is added to the mean
        of_channels[:, other, 0], of_channels[:, other, 1] = 5 + 2 * spread, -7
    x = torch.ones(256, 3, 1, 1, dtype=torch.float64)
    x[:, channel, 0, 0] = torch.linspace(-1, 1, 256, dtype=torch.float64)
    log_prob = MixtureOfLogistics(parameters.expand(256, -1, -1, -1), 8).log_prob(x)
    assert torch.logsumexp(log_prob, 0).item() == pytest.approx(0, abs=1e-9)


def test_the_mixture_s_likelihood_sums_to_one_over_all_colours() -> None:
    values = torch.linspace(-1, 1, 16, dtype=torch.float64)
    x = torch.cartesian_prod(values, values, values)[:, :, None, None]
    mixture = MixtureOfLogistics(random_mixture(1.5, size=(1, 1))[:1].expand(len(x), -1, -1, -1), 4)
    assert torch.logsumexp(mixture.log_prob(x), 0).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bits", [8, 5])
def test_the_mixture_s_likelihood_is_that_of_sigmoids(bits: int) -> None:
    parameters = random_mixture(1.0)
    x = torch.randint(0, 2**bits, (2, 3, 2, 2), generator=torch.Generator().manual_seed(1)).double() / (2**bits - 1) * 2 - 1
    x[0, :, 0, 0], x[1, :, 1, 1] = 1, -1
    slow = [sum(slow_log_prob(parameters[n, :, i, j], x[n, :, i, j], bits) for i in range(2) for j in range(2)) for n in range(2)]
    assert MixtureOfLogistics(parameters, bits).log_prob(x).tolist() == pytest.approx(slow, rel=1e-9)


def test_far_and_sharp_mixtures_keep_a_finite_likelihood_and_gradient_in_float32() -> None:
    parameters = (100 * random_mixture(1.0)).float().requires_grad_()
    x = torch.full((2, 3, 2, 2), 0.1)
    MixtureOfLogistics(parameters, 8).log_prob(x).sum().backward()
    assert torch.isfinite(parameters.grad).all()


def test_a_lower_temperature_narrows_the_mixture_s_noise() -> None:
    mixture = MixtureOfLogistics(random_mixture(1.0, mixtures=1, size=(1, 1))[:1].clamp(-2, 0).expand(4000, -1, -1, -1), 8)
    mixture.means_N3MHW = torch.zeros_like(mixture.means_N3MHW)
    mixture.log_scales_N3MHW = torch.full_like(mixture.means_N3MHW, -4.0)
    torch.manual_seed(0)
    spreads = [mixture.draw(temperature)[:, 0].std().item() for temperature in (1.0, 0.5)]
    assert spreads[0] == pytest.approx(math.exp(-4) * math.pi / math.sqrt(3), rel=0.05)
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=0.05)


def test_drawn_images_have_the_mixture_s_likelihood() -> None:
    parameters = random_mixture(0.5, mixtures=2, size=(1, 1))[:1]
    parameters[:, 2:].unflatten(1, (3, 3, 2))[:, :, 1] -= 2
    torch.manual_seed(0)
    drawn = MixtureOfLogistics(parameters.expand(200_000, -1, -1, -1), 8).draw()[:, :, 0, 0]
    level = ((drawn + 1) * 7.5).round().long()
    cells, counts = (level[:, 0] * 256 + level[:, 1] * 16 + level[:, 2]).unique(return_counts=True)
    common = counts.argsort(descending=True)[:20]
    x = torch.stack([cells[common] // 256, cells[common] // 16 % 16, cells[common] % 16], 1).double() / 7.5 - 1
    expected = torch.stack([torch.tensor(bin_probability(parameters[0, :, 0, 0], colour)) for colour in x])
    assert torch.allclose(counts[common] / len(drawn), expected.to(torch.float32), rtol=0.1)


def bin_probability(parameters: Tensor, x: Tensor) -> float:
    """The probability that a colour drawn at 8 bits rounds to the 4-bit colour x, by numbers of 8 bits a 4-bit value each."""
    fine = torch.arange(256) / 255 * 2 - 1
    near = [fine[((fine + 1) * 7.5).round() == ((value + 1) * 7.5).round()] for value in x]
    colours = torch.cartesian_prod(*near).double()[:, :, None, None]
    log_prob = MixtureOfLogistics(parameters[None, :, None, None].expand(len(colours), -1, -1, -1), 8).log_prob(colours)
    return float(torch.logsumexp(log_prob, 0).exp())


def test_the_expected_image_conditions_channel_after_channel() -> None:
    parameters = random_mixture(1.0)
    weights, rest = parameters[:, :3].softmax(1), parameters[:, 3:].unflatten(1, (3, 3, 3))
    mean, coefficient = ((weights[:, None] * part).sum(2) for part in (rest[:, :, 0], rest[:, :, 2].tanh()))
    red = mean[:, 0].clamp(-1, 1)
    green = (mean[:, 1] + coefficient[:, 0] * red).clamp(-1, 1)
    blue = (mean[:, 2] + coefficient[:, 1] * red + coefficient[:, 2] * green).clamp(-1, 1)
    assert torch.allclose(MixtureOfLogistics(parameters, 8).expected(), torch.stack([red, green, blue], 1))


def test_the_gaussian_likelihood_is_that_of_torch() -> None:
    parameters = 3 * torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, log_stddev = (5 * torch.tanh(part / 5) for part in parameters.chunk(2, 1))
    x = torch.linspace(-1, 1, 96, dtype=torch.float64).view(2, 3, 4, 4)
    expected = Normal(mean, log_stddev.exp() + 0.01).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(PixelGaussian(parameters).log_prob(x), expected)


def random_gaussian(seed: int, *shape: int) -> Gaussian:
    source = torch.Generator().manual_seed(seed)
    return Gaussian.of(*(torch.randn(2, *shape, generator=source, dtype=torch.float64)))


def test_the_analytic_kl_is_torch_s_and_what_sampling_finds() -> None:
    posterior, prior = random_gaussian(0, 7), random_gaussian(1, 7)
    exact = posterior.kl(prior)
    assert torch.allclose(exact, kl_divergence(Normal(*posterior), Normal(*prior)))
    torch.manual_seed(0)
    many = Gaussian(*(part.expand(200_000, -1) for part in posterior))
    z = many.draw()
    assert torch.allclose((posterior.log_prob(z) - prior.log_prob(z)).mean(0), exact, rtol=0.03, atol=0.01)


def test_a_residual_posterior_is_an_absolute_one_with_the_prior_s_parameters_added() -> None:
    torch.manual_seed(0)
    h = NVAEHyperparameters(**SIZES)
    residual = Group(h, h.plan[1], False, h.plan[1].decoder_channels).double()
    absolute = Group(NVAEHyperparameters(**SIZES | {"residual_posterior": False}), h.plan[1], False, h.plan[1].decoder_channels).double()
    absolute.load_state_dict(residual.state_dict())
    (height, width), above, below = h.plan[1].size, h.plan[1].decoder_channels, h.plan[1].encoder_channels
    state, features = (torch.randn(2, channels, height, width, dtype=torch.float64) for channels in (above, below))
    relative, head = residual.infer(state, features, draw=False), absolute.posterior_head
    absolute.posterior_head = Added(head, absolute.prior_head(state))
    found = absolute.infer(state, features, draw=False)
    assert torch.allclose(relative.posterior.mean, found.posterior.mean)
    assert torch.allclose(relative.kl(), found.kl())
    shift, ratio = relative.posterior.mean - relative.prior.mean, relative.posterior.stddev / relative.prior.stddev
    paper = (shift.square() / relative.prior.stddev.square() + ratio.square() - ratio.square().log() - 1) / 2
    assert torch.allclose(relative.kl(), paper)


class Added(nn.Module):
    """A head that knows the prior's parameters."""

    def __init__(self, head: nn.Module, parameters: Tensor) -> None:
        super().__init__()
        self.head, self.prior = head, parameters

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features) + self.prior


def test_a_flow_keeps_the_volume_and_each_step_follows_the_order_of_a_page() -> None:
    torch.manual_seed(0)
    flow = Flow(2).double()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith("log_gain"):
                parameter.add_(0.5)
    z = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    # elements in the order of a page: by row, by column, and by channel within a pixel
    order = torch.arange(24).view(2, 3, 4).permute(1, 2, 0).flatten()
    jacobian = torch.autograd.functional.jacobian(flow, z).view(24, 24)
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(0, abs=1e-9)
    assert (jacobian - torch.eye(24)).abs().max() > 0.01
    for step, ordered in ((flow.forth, order), (flow.back, order.flip(0))):
        moved = torch.autograd.functional.jacobian(step, z).view(24, 24)[ordered][:, ordered]
        assert torch.equal(moved, moved.tril(-1))
        first_in_row = torch.arange(1, 24) % 8 == 0
        assert ((moved.diagonal(-1) != 0) | first_in_row).all()


def test_spectral_norms_converge_to_the_largest_singular_values_and_pass_gradients_to_the_kernels() -> None:
    torch.manual_seed(0)
    model = NVAE(NVAEHyperparameters(**SIZES | {"flows": 1}))
    convolutions = convolutions_of(model)
    exact = sum(torch.linalg.svdvals(kernels(convolution).flatten(1))[0] for convolution in convolutions)
    norms = SpectralNorms(convolutions)
    first = norms(convolutions, 1)
    for _ in range(30):
        last = norms(convolutions, 4)
    assert last.item() == pytest.approx(exact.item(), rel=0.01)
    assert abs(last - exact) < abs(first - exact)
    assert norms(convolutions, 0).item() == pytest.approx(last.item())
    parameters = [model.stem.weight, model.groups[0].flows[0].forth[0].log_gain]
    for found, wanted in zip(torch.autograd.grad(last, parameters), torch.autograd.grad(exact, parameters), strict=True):
        assert torch.allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))


def test_the_largest_gain_of_every_normalisation_counts() -> None:
    model = varied()
    gains = [part.weight.abs().max() for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    assert largest_gains(model).item() == pytest.approx(sum(gains).item())


class SlowNVAE:
    """The model's equations, one after the other, with the weights of `model`."""

    def __init__(self, model: NVAE) -> None:
        self.model, self.h = model, model.hyperparameters

    def convolved(self, x: Tensor, at: nn.Module, stride: int = 1) -> Tensor:
        v = at.weight
        if hasattr(at, "log_gain"):
            length = v.square().sum((1, 2, 3), keepdim=True).sqrt()
            v = at.log_gain.exp()[:, None, None, None] * v / (length + 1e-5)
        kernel, grouped = v.shape[2], x.shape[1] // v.shape[1]
        return F.conv2d(x, v, at.bias, stride, kernel // 2, groups=grouped)

    def normalised(self, x: Tensor, at: nn.BatchNorm2d) -> Tensor:
        mean, variance, gain, bias = (part[:, None, None] for part in (at.running_mean, at.running_var, at.weight, at.bias))
        return (x - mean) / (variance + 1e-5).sqrt() * gain + bias

    def excited(self, x: Tensor, at: nn.Module) -> Tensor:
        first, _, second, _ = at.scale
        means = x.mean((2, 3))
        hidden = (means @ first.weight.T + first.bias).clamp(min=0)
        return x * torch.sigmoid(hidden @ second.weight.T + second.bias)[:, :, None, None]

    def up(self, x: Tensor, cell: nn.Module) -> Tensor:
        """A bottom-up cell."""
        norm0, _, conv0, norm1, _, conv1, excite = cell.branch
        half = conv0.stride == (2, 2)
        branch = self.convolved(swish(self.normalised(x, norm0)), conv0, 2 if half else 1)
        branch = self.excited(self.convolved(swish(self.normalised(branch, norm1)), conv1), excite)
        if half:
            phases = [swish(x)[:, :, i::2, j::2] for i, j in ((0, 0), (1, 1), (0, 1), (1, 0))]
            x = torch.cat([self.convolved(phase, at) for phase, at in zip(phases, cell.skip.convolutions, strict=True)], 1)
        return x + 0.1 * branch

    def down(self, x: Tensor, cell: nn.Module) -> Tensor:
        """A top-down cell; what doubles the size comes first, as in the paper."""
        double = not isinstance(cell.skip, nn.Identity)
        layers = [layer for layer in cell.branch if not isinstance(layer, (nn.SiLU, nn.Upsample))]
        norm0, narrow, norm1, depthwise, norm2, wide, norm3, excite = layers
        branch = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if double else x
        branch = swish(self.normalised(self.convolved(self.normalised(branch, norm0), narrow), norm1))
        branch = swish(self.normalised(self.convolved(branch, depthwise), norm2))
        branch = self.excited(self.normalised(self.convolved(branch, wide), norm3), excite)
        if double:
            grown = F.interpolate(x, size=[2 * size for size in x.shape[2:]], mode="bilinear", align_corners=True)
            x = self.convolved(grown, cell.skip.convolution)
        return x + 0.1 * branch

    def negative_elbo(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """The latents' means, their KLs (N,) by group, and -log p(x | means) (N,)."""
        model, x = self.model, 2 * frames - 1
        h = self.convolved(x, model.stem)
        for cell in model.preprocess:
            h = self.up(h, cell)
        features = []
        for cells in model.bottom_up:
            for cell in cells:
                h = self.up(h, cell)
            features.append(h)
        top = elu(self.convolved(elu(features.pop()), model.top_features[1]))
        state, latents, kls = model.start.expand(len(frames), -1, -1, -1), [], []
        for index, group in enumerate(model.groups):
            for cell in group.cells:
                state = self.down(state, cell)
            if index == 0:
                mean, log_stddev = self.convolved(top, group.posterior_head).chunk(2, 1)
                prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
            else:
                evidence = features.pop() + self.convolved(state, group.combine_features)
                own = self.convolved(elu(state), group.prior_head[1]).chunk(2, 1)
                delta = self.convolved(evidence, group.posterior_head).chunk(2, 1)
                mean, log_stddev = own[0] + delta[0], own[1] + delta[1]
                prior = normal(*own)
            posterior = normal(mean, log_stddev)
            latents.append(posterior.mean)
            kls.append(kl_divergence(posterior, prior).sum((1, 2, 3)))
            state = self.convolved(torch.cat([state, posterior.mean], 1), group.combine_state)
        for cell in model.postprocess:
            state = self.down(state, cell)
        parameters = self.convolved(elu(state), model.image_head[1])
        pixels = [
            sum(slow_log_prob(p[:, i, j], y[:, i, j]) for i in range(x.shape[2]) for j in range(x.shape[3]))
            for p, y in zip(parameters, x, strict=True)
        ]
        return latents, kls, -torch.tensor(pixels)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x.exp() - 1)


def normal(mean: Tensor, log_stddev: Tensor) -> Normal:
    return Normal(5 * torch.tanh(mean / 5), (5 * torch.tanh(log_stddev / 5)).exp() + 0.01)


@torch.no_grad()
def test_latents_kl_and_likelihood_are_those_of_the_paper_s_equations() -> None:
    model = varied()
    frames = torch.randint(0, 256, (2, 3, 16, 8), generator=torch.Generator().manual_seed(1)).double() / 255
    latents, kls, nll = SlowNVAE(model).negative_elbo(frames)
    inferred = list(model.infer(frames, draw=False))
    for group, latent, kl in zip(inferred, latents, kls, strict=True):
        assert torch.allclose(group.z, latent, rtol=1e-9)
        assert torch.allclose(group.kl().sum((1, 2, 3)), kl, rtol=1e-9)
    assert torch.allclose(-model._log_likelihood(frames, inferred[-1]), nll.double(), rtol=1e-6)
    readings = model.clip_readings(frames[:, None])
    assert torch.allclose(readings["top"][:, 0], latents[0].flatten(1))
    assert torch.allclose(readings["pooled"][:, 0], torch.cat([latent.mean((2, 3)) for latent in latents], 1))
