"""Gymnasium and Stable-Baselines3 wrappers: latents, the state or masks with pixels; kinds of actions, frame skip, flat observations."""

from wrappers.continuous_actions import ContinuousActions
from wrappers.discrete_actions import DiscreteActions
from wrappers.flat_observation import FlatObservation
from wrappers.frame_skip import FrameSkip
from wrappers.frozen_encoder import FrozenEncoder
from wrappers.latent_observation import LatentObservation
from wrappers.masked_picture import MaskedPicture
from wrappers.opening import open_encoder
from wrappers.picture_encoder import PictureEncoder
from wrappers.plain_actions import PlainActions
from wrappers.remote_encoder import RemoteEncoder
from wrappers.sets import SetExtractor, SetSpace
from wrappers.side_by_side import SideBySide
from wrappers.state_observation import StateObservation
from wrappers.vec_history import VecHistory
from wrappers.vec_latent import VecLatent

__all__ = [
    "ContinuousActions",
    "DiscreteActions",
    "FlatObservation",
    "FrameSkip",
    "FrozenEncoder",
    "LatentObservation",
    "MaskedPicture",
    "PictureEncoder",
    "PlainActions",
    "RemoteEncoder",
    "SetExtractor",
    "SetSpace",
    "SideBySide",
    "StateObservation",
    "VecHistory",
    "VecLatent",
    "open_encoder",
]
