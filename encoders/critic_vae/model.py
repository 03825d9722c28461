"""A VAE whose decoder is told what the frame is worth, so that one can see what the frame lacks to be worth more (Critic-VAE).

    encoder   4 x [conv 5x5, batch normalisation, maximum of 2x2, ReLU; the last tanh] -> mean and log-variance of D latents
    decoder   latents and value -> linear -> 4 x [conv 5x5, ReLU, up 2] -> conv 5x5 -> sigmoid

The likelihood is exp(-(1 - MS-SSIM) / w), not normalised, with w the KL's weight (Wang et al. 2003 for MS-SSIM).

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, D latents.
"""

import itertools
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.critic_vae.hyperparameters import LEVEL_WEIGHTS, CriticVAEHyperparameters
from encoders.encoder import Batch, Encoder, GivesValue, State

GREY = (0.2989, 0.587, 0.114)
_TAPS, _SIGMA = 11, 1.5
_STABLE = (0.01**2, 0.03**2)
_SHOWN = 16
_DECAY = 0.99


class CriticVAE(Encoder):
    """Encode a frame into the mean of a Gaussian, and its value by a critic that is handed in.

    The readings: `all`, the means and the value (D + 1,); `mean` (D,); `value` (1,). Raises `ValueError` without a critic.
    """

    Hyperparameters = CriticVAEHyperparameters
    parts: ClassVar[tuple[str, ...]] = ("critic",)
    collapse_remedy = "lower model.kl-weight, or train longer"
    hyperparameters: CriticVAEHyperparameters
    largest_difference: Tensor
    differences_seen: Tensor
    above: float | None
    """The value tells whether the reward to come is above this; None: how large it is."""

    def __init__(self, hyperparameters: CriticVAEHyperparameters | None = None, critic: Encoder | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or CriticVAEHyperparameters()
        self.frame_shape, self.latents = h.frame_shape, {"all": (h.latent_dim + 1,), "mean": (h.latent_dim,), "value": (1,)}
        self.critic = _checked(critic, h)
        self.above = getattr(self.critic, "above", None)
        height, width, colours = h.frame_shape
        halved = len(h.channels)
        self.laid_out = (h.channels[-1], height >> halved, width >> halved)
        positions = self.laid_out[1] * self.laid_out[2]
        self.encoder = nn.Sequential(*_halving(colours, h.channels))
        self.to_mean, self.to_log_variance = (nn.Linear(h.channels[-1] * positions, h.latent_dim) for _ in range(2))
        self.from_latents = nn.Linear(h.latent_dim + 1, h.channels[-1] * positions)
        self.decoder = nn.Sequential(*_doubling(colours, h.channels), nn.Sigmoid() if h.output == "sigmoid" else nn.Tanh())
        # the mean over frames of the largest difference that their masks are scaled by
        self.register_buffer("largest_difference", torch.ones(()))
        self.register_buffer("differences_seen", torch.zeros(()))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.critic.eval()
        return self

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return `distortion`, 1 - MS-SSIM, and the `kl` in nats a frame; `negative_elbo` is that of the likelihood above, in nats."""
        weight = self.hyperparameters.kl_weight
        frames, value_N = batch.frames.flatten(0, 1), self.value(batch.frames).flatten()
        if self.training and self.hyperparameters.balanced:
            chosen = self._balanced(value_N)
            frames, value_N = frames[chosen], value_N[chosen]
        mean_ND, log_variance_ND = self.posterior(frames)
        z_ND = mean_ND + torch.exp(log_variance_ND / 2) * torch.randn_like(mean_ND)
        distortion = 1 - ms_ssim(self.at_value(z_ND, value_N), frames)
        kl = gaussian_kl(mean_ND, log_variance_ND).sum(1).mean()
        if self.training:
            self._follow_differences(mean_ND[:_SHOWN].detach(), value_N[:_SHOWN])
        loss = distortion + weight * kl
        return {"loss": loss, "negative_elbo": loss.detach() / weight, "distortion": distortion.detach(), "kl": kl.detach()}

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        name = self.reading(latents)
        parts = [] if name == "value" else [self.posterior(frames)[0]]
        parts += [] if name == "mean" else [self.value(frames.unsqueeze(1))]
        return torch.cat(parts, 1), state

    def value(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return what the critic says frames (B, T, C, H, W) are worth, (B, T) in [0, 1]."""
        with torch.no_grad():
            return self.critic.value(frames)  # type: ignore[operator]

    def masks(self, frames: Tensor) -> Tensor:
        """Return masks (B, T, H, W) in [0, 1] of frames (B, T, C, H, W): where they would differ if they were worth nothing."""
        differences = self.differences(self.posterior(frames.flatten(0, 1))[0], self.value(frames).flatten())
        return (differences / self.largest_difference).clamp(max=1).unflatten(0, frames.shape[:2])

    def at_values(self, frames: Tensor, values: Tensor) -> Tensor:
        """Return the frames (N, C, H, W) as they would look at each of `values` (K,): (N, K, C, H, W) in [0, 1]."""
        mean_ND = self.posterior(frames)[0]
        count = len(values)
        decoded = self.at_value(mean_ND.repeat_interleave(count, 0), values.to(mean_ND).repeat(len(mean_ND)))
        return decoded.clamp(0, 1).unflatten(0, (-1, count))

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        return {"mean": gaussian_kl(*self.posterior(frames.flatten(0, 1))).mean(0)}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        mean_ND = self.posterior(frames.flatten(0, 1))[0]
        return self.at_value(mean_ND, self.value(frames).flatten()).clamp(0, 1).view_as(frames)

    def sample(self, count: int) -> Tensor:
        """Draw frames (count, 1, C, H, W) in [0, 1] from the prior, of values from 0 to 1."""
        z_ND = torch.randn(count, self.hyperparameters.latent_dim, device=self.from_latents.weight.device)
        return self.at_value(z_ND, torch.linspace(0, 1, count, device=z_ND.device)).clamp(0, 1).unsqueeze(1)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the mean frames (B, C, H, W) in [0, 1] of the reading `all`."""
        return self.at_value(latents[:, :-1], latents[:, -1]).clamp(0, 1)

    def posterior(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, D)."""
        # laid out as published, and in no other way in memory
        features = self.encoder(x_NCHW).contiguous().flatten(1)
        return at_least_float32(self.to_mean(features)), at_least_float32(self.to_log_variance(features))

    def at_value(self, z_ND: Tensor, value_N: Tensor) -> Tensor:
        """Turn latents and values into frames (N, C, H, W)."""
        told = torch.cat([z_ND, value_N.unsqueeze(1).to(z_ND)], 1)
        return at_least_float32(self.decoder(self.from_latents(told).unflatten(1, self.laid_out)))

    def differences(self, mean_ND: Tensor, value_N: Tensor) -> Tensor:
        """Return how much the frames differ in grey from what they would be if they were worth nothing: (N, H, W)."""
        difference = (self.at_value(mean_ND, value_N) - self.at_value(mean_ND, torch.zeros_like(value_N))).abs()
        weights = difference.new_tensor(GREY) if difference.shape[1] == len(GREY) else difference.new_ones(difference.shape[1])
        return torch.einsum("nchw,c->nhw", difference, weights)

    @torch.no_grad()
    def _follow_differences(self, mean_ND: Tensor, value_N: Tensor) -> None:
        """Keep a running mean of the frames' largest differences."""
        largest = self.differences(mean_ND, value_N).amax((1, 2)).mean().clamp(min=1e-6)
        self.differences_seen.add_(1)
        self.largest_difference.lerp_(largest.to(self.largest_difference), (1 / self.differences_seen).clamp(min=1 - _DECAY))

    def _balanced(self, value_N: Tensor) -> Tensor:
        """Draw as many frames of high, of middle and of low value as make half of the batch."""
        h = self.hyperparameters
        bands = (value_N >= h.high_from, (value_N >= h.middle[0]) & (value_N <= h.middle[1]), value_N <= h.low_to)
        found = [places for band in bands if len(places := band.nonzero().flatten())] or [torch.arange(len(value_N), device=value_N.device)]
        each = -(-len(value_N) // (2 * len(found)))
        return torch.cat([places[torch.randint(len(places), (each,), device=places.device)] for places in found])


def ms_ssim(x_NCHW: Tensor, y_NCHW: Tensor) -> Tensor:
    """Return the multi-scale structural similarity of pictures in [0, 1], averaged over them (Wang et al. 2003, equation 7).

    Five scales, a Gaussian window of 11 taps and deviation 1.5 with zeros beyond the border, and the means over all pictures raised to the
    scales' weights, so that it depends a little on how many are given at once; means below 0 count as 0. Never in 16 bits, in which
    variances, which are differences of squares, are lost.
    """
    with torch.autocast(x_NCHW.device.type, enabled=False):
        return _ms_ssim(at_least_float32(x_NCHW), at_least_float32(y_NCHW))


def _ms_ssim(x_NCHW: Tensor, y_NCHW: Tensor) -> Tensor:
    similarity, contrast = _ssim(x_NCHW, y_NCHW)
    product = x_NCHW.new_ones(())
    for weight in LEVEL_WEIGHTS[:-1]:
        # a power below 1 has no finite slope at 0
        product = product * contrast.clamp(min=1e-6) ** weight
        x_NCHW, y_NCHW = F.avg_pool2d(x_NCHW, 2), F.avg_pool2d(y_NCHW, 2)
        similarity, contrast = _ssim(x_NCHW, y_NCHW)
    return product * similarity.clamp(min=1e-6) ** LEVEL_WEIGHTS[-1]


def _ssim(x_NCHW: Tensor, y_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean structural similarity, and the mean of its contrast and structure alone."""
    mean_x, mean_y = _blurred(x_NCHW), _blurred(y_NCHW)
    variance_x = _blurred(x_NCHW.square()) - mean_x.square()
    variance_y = _blurred(y_NCHW.square()) - mean_y.square()
    covariance = _blurred(x_NCHW * y_NCHW) - mean_x * mean_y
    contrast = (2 * covariance + _STABLE[1]) / (variance_x + variance_y + _STABLE[1])
    luminance = (2 * mean_x * mean_y + _STABLE[0]) / (mean_x.square() + mean_y.square() + _STABLE[0])
    return (luminance * contrast).mean(), contrast.mean()


def _blurred(x_NCHW: Tensor) -> Tensor:
    """Convolve with the Gaussian window, rows after columns."""
    taps = torch.arange(_TAPS, dtype=x_NCHW.dtype, device=x_NCHW.device) - _TAPS // 2
    gaussian = torch.exp(-taps.square() / (2 * _SIGMA**2))
    gaussian = gaussian / gaussian.sum()
    flat = x_NCHW.reshape(-1, 1, *x_NCHW.shape[2:])
    columns = F.conv2d(flat, gaussian.view(1, 1, -1, 1), padding=(_TAPS // 2, 0))
    return F.conv2d(columns, gaussian.view(1, 1, 1, -1), padding=(0, _TAPS // 2)).view_as(x_NCHW)


def gaussian_kl(mean_ND: Tensor, log_variance_ND: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) in nats a unit (N, D)."""
    return (mean_ND.square() + log_variance_ND.exp() - 1 - log_variance_ND) / 2


def at_least_float32(x: Tensor) -> Tensor:
    """Return numbers of 16 bits, as autocast leaves them, in float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _checked(critic: Encoder | None, h: CriticVAEHyperparameters) -> Encoder:
    if critic is None:
        raise ValueError("a Critic-VAE needs a trained critic: give --model.critic RUN")
    if not isinstance(critic, GivesValue):
        raise ValueError(f"critic: a {type(critic).__name__} gives no value; name the folder of a critic")
    if tuple(critic.frame_shape) != tuple(h.frame_shape):
        raise ValueError(f"critic: it takes frames of {tuple(critic.frame_shape)}, this model of {tuple(h.frame_shape)}")
    return critic.eval().requires_grad_(False)


def _halving(colours: int, channels: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inner, outer in zip((colours, *channels), channels, strict=False):
        layers += [nn.Conv2d(inner, outer, 5, padding=2), nn.BatchNorm2d(outer), nn.MaxPool2d(2), nn.ReLU()]
    return [*layers[:-1], nn.Tanh()]


def _doubling(colours: int, channels: tuple[int, ...]) -> list[nn.Module]:
    back = [*reversed(channels), channels[0]]
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(back):
        layers += [nn.Conv2d(inner, outer, 5, padding=2), nn.ReLU(), nn.Upsample(scale_factor=2)]
    return [*layers, nn.Conv2d(channels[0], colours, 5, padding=2)]
