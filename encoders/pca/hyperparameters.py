"""How many principal components of which frames."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PCAHyperparameters:
    frame_shape: tuple[int, int, int] = (64, 64, 3)
    latent_dim: int = 64
