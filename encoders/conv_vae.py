"""Convolutional beta-VAE: one scale, diagonal Gaussian latents, squared error (Higgins et al. 2017).

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, D latents.

The stacks are strings, one word a layer: `64k3s2` is 64 channels, a 3x3 kernel, stride 2. The encoder strides down, the
decoder strides up through the same sizes in reverse; its last layer, back to C channels, is the word `k3s1` (a kernel and a
stride, no channels).

Every layer pads as TensorFlow's 'same' does: by kernel - stride in all, the odd one at the bottom and right. PyTorch's
convolutions pad evenly, or have their input copied into a larger tensor first and its gradient out of one after, which is an
eighth of a training step of the reference's architecture. They do leave out what is too much at the bottom and right. So a stack
with such a layer works on the mirrored picture, where the larger margin is at the top and left, with mirrored kernels.
"""

import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.encoder import Batch, Encoder, State

LOG_VARIANCE_BOUND = 10.0
VECTOR = 16
"""float32 numbers in a register of AVX-512."""


@dataclass(frozen=True)
class ConvVAEHyperparameters:
    """The reference's architecture: 8,816,000 parameters encode and 5,208,259 decode."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    latent_dim: int = 256
    encoder: str = "32k5s1 64k3s1 64k3s2 128k3s2 256k3s2"
    linear_stem: bool = True
    """No activation after the first convolution."""
    decoder: str = "256 256k3s2 128k3s2 64k3s2 64k3s1 k3s1"
    """The first word is the number of channels that the latents are laid out in."""
    beta: float = 0.8
    beta_unit: Literal["elbo", "reference"] = "elbo"
    """`elbo`: the loss is SSE/2 + beta KL. `reference`: SSE/(H W) + beta KL/D, the same loss times 2/(H W)."""
    half_cycle_steps: int | None = None
    """Steps in which beta rises from 0, and as many in which it stays; then again. None: beta is constant."""
    freeze_steps: int = 0
    """Steps at the beginning with beta 0."""


class ConvVAE(Encoder):
    """Encode a frame into the mean of a Gaussian.

    The loss a frame is SSE/2 + beta KL, with SSE summed over pixels and channels in [0, 1]. Divided by the final beta, this is
    the negative ELBO of a Gaussian likelihood of variance beta, up to that likelihood's constant: `negative_elbo` (nats, with
    the constant) and `bits_per_dim` (of 8-bit values, the density times the bin's width) are of that model.
    """

    Hyperparameters = ConvVAEHyperparameters
    hyperparameters: ConvVAEHyperparameters

    def __init__(self, hyperparameters: ConvVAEHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or ConvVAEHyperparameters()
        self.frame_shape = h.frame_shape
        self.latents = {"mean": (h.latent_dim,)}
        self.final_beta = beta_in_elbo_units(h)
        self._check()
        height, width, channels = h.frame_shape
        down = parse_stack(h.encoder, channels)
        shrink = math.prod(layer.stride for layer in down)
        first, _, rest = h.decoder.partition(" ")
        up = parse_stack(rest, int(first), last=channels)
        self.laid_out = (int(first), height // shrink, width // shrink)
        positions = math.prod(self.laid_out[1:])
        self.encoder = _stack(down, _convolutions(down, h.linear_stem))
        self.to_posterior = nn.Linear(down[-1].out_channels * positions, 2 * h.latent_dim)
        self.from_latents = nn.Linear(h.latent_dim, int(first) * positions)
        self.decoder = _stack(up, [None, *_transposed(up), nn.Sigmoid()])
        self.apply(_initialise)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        x_NCHW = batch.frames.flatten(0, 1)
        mean_ND, log_variance_ND = self.posterior(x_NCHW)
        z_ND = mean_ND + torch.exp(log_variance_ND / 2) * torch.randn_like(mean_ND)
        reconstruction = self.decode(z_ND).sub(x_NCHW).square().sum((1, 2, 3)).mean() / 2
        kl = gaussian_kl(mean_ND, log_variance_ND).sum(1).mean()
        h = self.hyperparameters
        beta = self.final_beta * cyclical(step, h.half_cycle_steps, h.freeze_steps)
        dimensions = math.prod(h.frame_shape)
        likelihood_constant = dimensions / 2 * math.log(2 * math.pi * self.final_beta)
        negative_elbo = reconstruction.detach() / self.final_beta + likelihood_constant + kl.detach()
        return {
            "loss": reconstruction + beta * kl,
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
            "beta": torch.tensor(beta),
            "negative_elbo": negative_elbo,
            "bits_per_dim": (negative_elbo / dimensions + math.log(255)) / math.log(2),
        }

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        self.reading(latents)
        return self.posterior(frames)[0], state

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        return {"mean": gaussian_kl(*self.posterior(frames.flatten(0, 1))).mean(0)}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self.decode(self.posterior(frames.flatten(0, 1))[0]).view_as(frames)

    def sample(self, count: int) -> Tensor:
        z_ND = torch.randn(count, self.hyperparameters.latent_dim, device=self.from_latents.weight.device)
        return self.decode(z_ND).unsqueeze(1)

    def posterior(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, D), float32 under autocast too: the KL needs the precision."""
        mean_ND, raw_ND = self.to_posterior(self.encoder(x_NCHW).flatten(1)).float().chunk(2, dim=1)
        # a smooth bound keeps exp finite and, unlike a clamp, always leaves a gradient that leads back
        return mean_ND, LOG_VARIANCE_BOUND * torch.tanh(raw_ND / LOG_VARIANCE_BOUND)

    def decode(self, z_ND: Tensor) -> Tensor:
        """Turn latents into mean frames (N, C, H, W), float32 in [0, 1]."""
        return self.decoder(self.from_latents(z_ND).unflatten(1, self.laid_out)).float()

    def _check(self) -> None:
        h = self.hyperparameters
        first = h.decoder.partition(" ")[0]
        if not first.isdecimal() or int(first) < 1:
            raise ValueError(f"the decoder begins with a number of channels, as in '128 64k4s2 k4s2', not with '{first}'")
        down, up = parse_stack(h.encoder, h.frame_shape[2]), parse_stack(h.decoder.partition(" ")[2], 1, last=1)
        shrink, grow = math.prod(layer.stride for layer in down), math.prod(layer.stride for layer in up)
        if shrink != grow:
            raise ValueError(f"the encoder strides down {shrink} times and the decoder up {grow} times: make them equal")
        if any(size < shrink or size % shrink for size in h.frame_shape[:2]):
            raise ValueError(f"frame_shape {tuple(h.frame_shape)}: height and width must be multiples of {shrink}")
        if h.beta <= 0 or h.latent_dim < 1:
            raise ValueError("beta and latent_dim must be greater than 0")
        if h.freeze_steps < 0 or (h.half_cycle_steps is not None and h.half_cycle_steps < 1):
            raise ValueError("freeze_steps must be 0 or more, and half_cycle_steps 1 or more, or null for a constant beta")


class Layer(NamedTuple):
    in_channels: int
    out_channels: int
    kernel: int
    stride: int


def parse_stack(words: str, channels: int, last: int | None = None) -> list[Layer]:
    """Read a stack like `32k5s2 64k3s2`; with `last`, the final word has no channels and gives that many."""
    layers = []
    for index, word in enumerate(words.split()):
        match = re.fullmatch(r"(\d*)k(\d+)s(\d+)", word)
        is_last = last is not None and index == len(words.split()) - 1
        if match is None or (match[1] == "") != is_last:
            raise ValueError(f"'{word}' in '{words}' is no layer: write {'k3s1' if is_last else '64k3s2'} for a kernel of 3 and a stride")
        out = last if last is not None and is_last else int(match[1])
        layers.append(Layer(channels, out, int(match[2]), int(match[3])))
        if out < 1 or not 1 <= layers[-1].stride <= layers[-1].kernel:
            raise ValueError(f"'{word}' in '{words}': channels and stride must be at least 1, the kernel no smaller than the stride")
        channels = out
    if not layers:
        raise ValueError("the encoder and the decoder need at least one layer each")
    return layers


def cyclical(step: int, half_cycle_steps: int | None, freeze_steps: int) -> float:
    """Return the share of the final beta before optimizer step `step` (Fu et al. 2019, R = 0.5): 0 to 1.

    0 for `freeze_steps`; then cycles that rise from 0 for one half and stay at 1 for the other, counted from the end of the
    freeze. (The reference counts them from step 0, which prolongs a freeze that does not end with a cycle.)
    """
    if step < freeze_steps:
        return 0.0
    if half_cycle_steps is None:
        return 1.0
    return min(1.0, (step - freeze_steps) % (2 * half_cycle_steps) / half_cycle_steps)


def beta_in_elbo_units(h: ConvVAEHyperparameters) -> float:
    """Return the weight of the KL beside SSE/2: the reference's beta times r/(2k), with r = H W and k = D."""
    if h.beta_unit == "elbo":
        return h.beta
    return h.beta * h.frame_shape[0] * h.frame_shape[1] / (2 * h.latent_dim)


def gaussian_kl(mean_ND: Tensor, log_variance_ND: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) in nats a unit (N, D)."""
    return (mean_ND.square() + log_variance_ND.exp() - 1 - log_variance_ND) / 2


class Mirrored(nn.Sequential):
    """A stack that works on the mirrored picture: upside down and left to right."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(x_NCHW.flip(2, 3)).flip(2, 3)


class MirroredConvolution(nn.Conv2d):
    """The 'same' convolution of a layer, for the mirrored picture."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=margins(layer)[1])
        self.is_too_large = layer.stride == 1 and is_uneven(layer)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = F.conv2d(x_NCHW, self.weight.flip(2, 3), self.bias, self.stride, self.padding)
        # a longer stride never reaches the window that is too much
        return y_NCHW[:, :, :-1, :-1].contiguous(memory_format=torch.channels_last) if self.is_too_large else y_NCHW


class MirroredTransposedConvolution(nn.ConvTranspose2d):
    """The adjoint of the mirrored convolution that has the same kernel, stride and larger size."""

    def __init__(self, layer: Layer) -> None:
        before, after = margins(layer)
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=after, output_padding=after - before)

    def forward(self, x_NCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        kernel = self.weight.flip(2, 3)
        return F.conv_transpose2d(x_NCHW, kernel, self.bias, self.stride, self.padding, self.output_padding)  # type: ignore[arg-type]


class SubpixelConvolution(nn.ConvTranspose2d):
    """The transposed 'same' convolution of a layer whose kernel is twice its stride S, as a plain one to S^2 times the channels.

    Each of the (H + 1) (W + 1) positions between four pixels gives a block of S x S pixels (Shi et al. 2016). For a few channels this is
    several times as fast on the CPU: a picture's three fill a fifth of a vector register.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=layer.stride // 2)

    def forward(self, x_NCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        (inner, outer), stride = self.weight.shape[:2], self.stride[0]
        count, _, height, width = x_NCHW.shape
        # the second half of the kernel reaches into the next block: of a block, it comes from the pixel before
        split = self.weight.view(inner, outer, 2, stride, 2, stride).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
        kernel = split.reshape(-1, inner, 2, 2).contiguous(memory_format=torch.channels_last)
        assert self.bias is not None
        blocks_NHWC = F.conv2d(x_NCHW, kernel, self.bias.repeat(stride * stride), padding=1).permute(0, 2, 3, 1)
        rows = blocks_NHWC.reshape(count, height + 1, width + 1, stride, stride * outer).transpose(2, 3)
        y_NHWC = rows.reshape(count, (height + 1) * stride, (width + 1) * stride, outer)
        margin = stride // 2
        return y_NHWC[:, margin:-margin, margin:-margin].permute(0, 3, 1, 2)


def margins(layer: Layer) -> tuple[int, int]:
    """Return how many pixels a layer pads at the top and left, and how many at the bottom and right."""
    total = max(layer.kernel - layer.stride, 0)
    return total // 2, total - total // 2


def is_uneven(layer: Layer) -> bool:
    """Tell whether the margins of a layer differ."""
    before, after = margins(layer)
    return before != after


def _stack(layers: list[Layer], modules: list[nn.Module | None]) -> nn.Sequential:
    """Name modules by their places, as their weights are in files; None is a place that counts and has nothing in it."""
    named = OrderedDict((str(place), module) for place, module in enumerate(modules) if module is not None)
    return Mirrored(named) if any(map(is_uneven, layers)) else nn.Sequential(named)


def _convolutions(layers: list[Layer], linear_stem: bool) -> list[nn.Module | None]:
    modules: list[nn.Module | None] = []
    mirrored = any(map(is_uneven, layers))
    for index, layer in enumerate(layers):
        modules += [*_margin(layer), _convolution(layer, mirrored)]
        if index > 0 or not linear_stem:
            modules.append(nn.ReLU(inplace=True))
    return modules


def _transposed(layers: list[Layer]) -> list[nn.Module | None]:
    modules: list[nn.Module | None] = []
    mirrored = any(map(is_uneven, layers))
    for layer in layers:
        # with stride 1 both kinds of convolution are the same map, and the plain one is faster
        if layer.stride == 1:
            modules += [*_margin(layer), _convolution(layer, mirrored)]
        else:
            modules += [_transposed_convolution(layer, mirrored), *_margin(layer)]
        modules.append(nn.ReLU(inplace=True))
    return modules[:-1]


def _margin(layer: Layer) -> list[None]:
    """Return the place that an uneven margin takes beside its convolution."""
    return [None] if is_uneven(layer) else []


def _convolution(layer: Layer, mirrored: bool) -> nn.Conv2d:
    if mirrored:
        return MirroredConvolution(layer)
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, margins(layer)[0])


def _transposed_convolution(layer: Layer, mirrored: bool) -> nn.ConvTranspose2d:
    if mirrored:
        return MirroredTransposedConvolution(layer)
    if layer.kernel == 2 * layer.stride and 4 * layer.out_channels <= VECTOR <= layer.out_channels * layer.stride**2:
        return SubpixelConvolution(layer)
    return nn.ConvTranspose2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, margins(layer)[0])


def _initialise(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases: the defaults of Keras, which the reference leaves as they are."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
