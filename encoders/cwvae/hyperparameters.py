"""What a Clockwork VAE is made of, checked."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClockworkVAEHyperparameters:
    """The reference's for MineRL: 34,396,627 parameters."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    clip_length: int = 100
    """Frames of a clip in training."""
    levels: int = 3
    """Of the hierarchy; the lowest is decoded into frames."""
    factor: int = 6
    """k: a level ticks once in so many ticks of the level below."""
    stochastic: int = 100
    """Size of each level's z."""
    deterministic: int = 800
    """Units of each level's GRU."""
    hidden: int = 800
    """Units of the layers around the GRU."""
    filters: int = 32
    """Channels of the first convolution; each one after it has twice as many."""
    channels_mult: int = 1
    """Multiplies the channels of all convolutions."""
    encoder_kernels: tuple[int, ...] = (4, 4, 4, 4)
    """Of the convolutions, each with a stride of 2."""
    decoder_kernels: tuple[int, ...] = (5, 5, 6, 6)
    """From 1x1 up to the frame; all strides are 2, without padding."""
    dense_layers: int = 3
    """Layers of the MLP of each level above the lowest; with 0, all levels share the convolutions' embedding."""
    dense_units: int = 1000
    """Units of those layers."""
    frame_stddev: float = 0.4
    """Standard deviation of the Gaussian likelihood of pixels in [0, 1]."""
    min_stddev: float = 1e-4
    """Least standard deviation of z."""
    std_offset: Literal["hidden", "presoftplus"] = "hidden"
    """Where 0.54 is added: to the hidden units, as the reference does, or to what softplus takes, so that deviations start near 1."""
    mean_only: bool = False
    """z is the mean; nothing is drawn."""
    beta: float | tuple[float, ...] = 1.0
    """Weight of the KL: one for all levels, or one a level, lowest first."""
    free_nats: float = 0.0
    """KL of a level over a whole clip that costs nothing."""
    kl_balance: float | None = None
    """Share of the KL's gradient that reaches the posterior, the rest going to the prior; null: all of it reaches both."""
    use_obs: tuple[bool, ...] | None = None
    """Which levels see the frames, lowest first; the others follow their prior. Null: all."""
    action_size: int = 0
    """Length of the action vectors that the lowest level's context takes in; 0: the model does without actions."""
    filter: Literal["delayed", "partial", "bottom"] = "delayed"
    """How upper levels are told of frames one by one, see `ClockworkVAE.encode`."""

    @property
    def channels(self) -> list[int]:
        """Of the encoder's convolutions, first to last."""
        return [self.filters * self.channels_mult * 2**layer for layer in range(len(self.encoder_kernels))]

    @property
    def embedding(self) -> int:
        """Length of a frame's embedding: the last convolution's output."""
        return self.channels[-1] * math.prod(_encoded_sizes(self))

    def checked(self) -> "ClockworkVAEHyperparameters":
        """Return itself; raise `ValueError` for values that make no model."""
        _check(self)
        _check_kernels(self)
        return self


def _check(h: ClockworkVAEHyperparameters) -> None:
    counts = ("clip_length", "levels", "factor", "stochastic", "deterministic", "hidden", "filters", "channels_mult", "dense_units")
    for name in counts:
        if getattr(h, name) < 1:
            raise ValueError(f"{name} must be 1 or more")
    if h.levels * math.log2(max(2, h.factor)) > 30:
        raise ValueError(f"{h.levels} levels, each {h.factor} times as slow as the one below: the highest would never tick")
    if h.dense_layers < 0 or h.action_size < 0 or h.free_nats < 0 or h.frame_stddev <= 0 or h.min_stddev <= 0:
        raise ValueError("dense_layers, action_size and free_nats must be 0 or more, frame_stddev and min_stddev greater than 0")
    for name, values in (("beta", h.beta), ("use_obs", h.use_obs)):
        if isinstance(values, tuple) and len(values) != h.levels:
            raise ValueError(f"{name} has {len(values)} values for {h.levels} levels: give one a level")
    if any(beta < 0 for beta in (h.beta if isinstance(h.beta, tuple) else (h.beta,))):
        raise ValueError("beta must be 0 or more")
    if h.use_obs is not None and not any(h.use_obs):
        raise ValueError("use_obs must let at least one level see the frames")
    if h.kl_balance is not None and not 0 <= h.kl_balance <= 1:
        raise ValueError("kl_balance must be from 0 to 1, or null for none")


def _check_kernels(h: ClockworkVAEHyperparameters) -> None:
    if min(*h.encoder_kernels, *h.decoder_kernels, 1) < 1 or len(h.encoder_kernels) != len(h.decoder_kernels):
        raise ValueError("encoder_kernels and decoder_kernels must be as many, of 1 or more")
    size = 1
    for kernel in h.decoder_kernels:
        size = 2 * (size - 1) + kernel
    if (size, size) != tuple(h.frame_shape[:2]):
        raise ValueError(
            f"decoder_kernels {h.decoder_kernels} make frames of {size}x{size}, and frame_shape is {tuple(h.frame_shape)}; "
            "(5, 5, 6, 6) make 64x64, (6, 5, 4) with encoder_kernels (4, 4, 4) 32x32"
        )
    if min(_encoded_sizes(h)) < 1:
        raise ValueError(f"encoder_kernels {h.encoder_kernels} leave nothing of frames of {tuple(h.frame_shape)}: take fewer")


def _encoded_sizes(h: ClockworkVAEHyperparameters) -> tuple[int, int]:
    height, width = h.frame_shape[:2]
    for kernel in h.encoder_kernels:
        height, width = (height - kernel) // 2 + 1, (width - kernel) // 2 + 1
    return height, width
