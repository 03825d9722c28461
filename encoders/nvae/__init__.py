"""NVAE, a deep hierarchical VAE."""

from encoders.nvae.hyperparameters import NVAEHyperparameters as NVAEHyperparameters
from encoders.nvae.model import NVAE as NVAE
