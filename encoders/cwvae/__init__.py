"""The Clockwork VAE."""

from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters as ClockworkVAEHyperparameters
from encoders.cwvae.model import ClockworkVAE as ClockworkVAE
