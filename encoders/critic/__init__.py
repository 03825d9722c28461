"""Critic-guided segmentation: what a frame is worth, and where the thing is that pays."""

from encoders.critic.hyperparameters import CriticHyperparameters as CriticHyperparameters
from encoders.critic.model import Critic as Critic
