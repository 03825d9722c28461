"""How many principal components of which frames."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PCAHyperparameters:
    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    latent_dim: int = 64
    """How many principal components."""
