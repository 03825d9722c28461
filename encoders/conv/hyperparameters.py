"""What a convolutional VAE, and an encoder of points, is made of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ConvVAEHyperparameters:
    """The reference's architecture: 8,816,000 parameters encode and 5,208,259 decode."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    latent_dim: int = 256
    """How many latents."""
    encoder: str = "32k5s1 64k3s1 64k3s2 128k3s2 256k3s2"
    """One word a layer: 64k3s2 has 64 channels, kernel 3, stride 2."""
    linear_stem: bool = True
    """No activation after the first convolution."""
    decoder: str = "256 256k3s2 128k3s2 64k3s2 64k3s1 k3s1"
    """The first word is the number of channels that the latents are laid out in."""
    beta: float = 0.8
    """Weight of the KL, in the unit that `beta_unit` names."""
    beta_unit: Literal["elbo", "reference"] = "elbo"
    """`elbo`: the loss is SSE/2 + beta KL. `reference`: SSE/(H W) + beta KL/D, the same loss times 2/(H W)."""
    half_cycle_steps: int | None = None
    """Steps in which beta rises from 0, and as many in which it stays; then again. None: beta is constant."""
    freeze_steps: int = 0
    """Steps at the beginning with beta 0."""
    points: int = 0
    """So many maps of the last features, read as points: a further reading for heads (encoders/conv/where.py)."""
    evidence: bool = False
    """A map of the last features as a further reading."""


@dataclass(frozen=True)
class PointsHyperparameters:
    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    encoder: str = "32k4s4 64k3s2 64k3s1"
    """One word a layer: channels, kernel, stride."""
    maps: int = 16
    """How many maps are read as points."""
