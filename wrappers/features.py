"""What stands before a Stable-Baselines3 policy's own layers: a CNN, a network on sets, or an encoder that learns with it."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv

from wrappers.frozen_encoder import FrozenEncoder
from wrappers.learning_encoder import begin_with as begin_with
from wrappers.learning_encoder import learning_options
from wrappers.sets import SetExtractor, SetSpace

_CNN_FEATURES = 512
"""What `CnnPolicy` takes from a picture; `MultiInputPolicy` takes 256 unless told."""


def extractor_options(venv: VecEnv, kind: str, width: int, encoder: FrozenEncoder | None = None) -> dict[str, Any]:
    """Return the `policy_kwargs` of the features extractor that suits the observations of `venv`; {} where the policy's own does.

    `kind` and `width` are those of `SetExtractor`, or flat for none. With an `encoder`, that is what learns from the picture: give it
    its weights with `begin_with`. Raises `UserError` where it cannot.
    """
    space = venv.observation_space
    entries = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    options: dict[str, Any] = {}
    if isinstance(space, spaces.Dict) and any(map(is_image_space, entries)):
        options["cnn_output_dim"] = _CNN_FEATURES
    if encoder is not None:
        return learning_options(encoder, venv, {**options, "kind": kind, "width": width})
    if kind != "flat" and any(isinstance(entry, SetSpace) for entry in entries):
        return {"features_extractor_class": SetExtractor, "features_extractor_kwargs": {**options, "kind": kind, "width": width}}
    return {"features_extractor_kwargs": options} if options else {}


def learning_parameters(algorithm: BaseAlgorithm) -> int:
    """Count the numbers that an algorithm's optimizers change: target networks, and what is kept from learning, are not among them."""
    optimizers = [recursive_getattr(algorithm, name) for name in algorithm._get_torch_save_params()[0] if "optimizer" in name]
    changed = {one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"] if one.requires_grad}
    return sum(one.numel() for one in changed)
