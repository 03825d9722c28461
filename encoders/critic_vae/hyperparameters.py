"""What a critic's VAE is made of, checked."""

from dataclasses import dataclass
from typing import Literal

LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, the finest first (Wang et al. 2003)."""


@dataclass(frozen=True)
class CriticVAEHyperparameters:
    """The reference's: 1,341,248 parameters encode, 1,242,723 decode."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    critic: str | None = None
    """The folder of a trained encoder that gives values; it stays as it is, and becomes part of this one."""
    latent_dim: int = 32
    """How many latents, beside the value."""
    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Of the encoder's convolutions; the decoder's go the way back."""
    kl_weight: float = 1e-3
    """Of the KL beside the distortion."""
    output: Literal["sigmoid", "tanh"] = "sigmoid"
    """What bounds the pixels; tanh as published, though pixels are never below 0."""
    balanced: bool = True
    """Learn from half of each batch: as many frames of high, of middle and of low value, as far as there are any."""
    high_from: float = 0.7
    """Values from here on are high."""
    middle: tuple[float, float] = (0.4, 0.6)
    """Values between these are middle."""
    low_to: float = 0.25
    """Values up to here are low."""

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or not self.channels or min(self.channels) < 1:
            raise ValueError("latent_dim and all channels must be 1 or more")
        if self.kl_weight <= 0:
            raise ValueError("kl_weight must be greater than 0")
        if not 0 < self.low_to < self.middle[0] < self.middle[1] < self.high_from < 1:
            raise ValueError("low_to, middle and high_from must rise from 0 to 1")
        shrink = 2 ** max(len(self.channels), len(LEVEL_WEIGHTS) - 1)
        if any(size < shrink or size % shrink for size in self.frame_shape[:2]):
            raise ValueError(f"frame_shape {tuple(self.frame_shape)}: height and width must be multiples of {shrink}")
