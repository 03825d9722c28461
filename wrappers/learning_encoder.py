"""An encoder that is not frozen: part of a Stable-Baselines3 policy, whose agent sees pictures and learns it end to end."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from encoders.parts import parts_of
from encoders.registry import make_architecture
from encoders.scaling import Scaling
from encoders.used import used_parameters, without_unused
from foundation.errors import UserError
from foundation.places import Scale
from wrappers.action_vectors import attribute
from wrappers.flat_observation import LATENT, PICTURE
from wrappers.frozen_encoder import FrozenEncoder
from wrappers.latents import check_resize, in_place_of_picture
from wrappers.picture_encoder import PictureEncoder
from wrappers.sets import SetExtractor, SetSpace


class LearningEncoder(SetExtractor):
    """Features extractor that makes of the picture what a `FrozenEncoder` makes of it, and then what a policy on latents sees.

    Latents are scaled by the saved statistics, which are constants here. The encoder stays in evaluation mode: the statistics of its batch
    normalisations are constants too, and a picture means the same when an action is chosen and when it is learned from, as PPO's ratio
    needs it; their scales and shifts learn. `name` and `hyperparameters` describe the encoder, `reading` is the one that is seen, `scale`
    how it is scaled, `kind` and `width` are those of `SetExtractor`, or flat. It begins with random weights: Stable-Baselines3 initialises
    a policy anew after it has made it, and `begin_with` comes after that.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        name: str,
        hyperparameters: dict[str, Any],
        reading: str,
        scale: Scale = "unit",
        kind: str = "deepsets",
        width: int = 64,
        **options: Any,
    ) -> None:
        model = make_architecture(name, hyperparameters)
        shape = model.latents[reading]
        is_set = reading in model.set_readings and kind != "flat"
        latents = (SetSpace if is_set else spaces.Box)(-np.inf, np.inf, shape, np.float32)
        super().__init__(in_place_of_picture(observation_space, latents), kind, width, **options)
        self.encoder = without_unused(model.eval(), reading)
        self.reading = reading
        self.scaled = Scaling.unknown(shape, scale, reading in model.set_readings)

    def train(self, mode: bool = True) -> "LearningEncoder":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, observations: Any) -> Tensor:
        in_dictionary = isinstance(observations, dict)
        picture = observations[PICTURE] if in_dictionary else observations
        # as a frozen encoder lays them out
        raw, _ = self.encoder.encode(picture.contiguous(memory_format=torch.channels_last), {}, None, self.reading)
        latents = self.scaled(raw)
        return super().forward({**observations, LATENT: latents} if in_dictionary else latents)


def learning_options(encoder: FrozenEncoder, venv: VecEnv, others: dict[str, Any]) -> dict[str, Any]:
    """Return the `policy_kwargs` of a policy on the pictures of `venv` that learns an encoder; `others` are options of `SetExtractor`.

    Raises `UserError` where there is nothing to learn, or pictures are not what the encoder takes.
    """
    refuse_not_learning(encoder)
    check_resize(encoder, attribute(venv, "picture_resize"))
    space = venv.observation_space
    picture = space[PICTURE] if isinstance(space, spaces.Dict) else space
    if picture.shape != encoder.frame_shape:
        raise UserError(f"the encoder was built for frames of {encoder.frame_shape}, and the pictures here are {picture.shape}")
    described = {"name": encoder.info.name, "hyperparameters": encoder.info.hyperparameters}
    described |= {"reading": encoder.reading, "scale": encoder.scale}
    return {"features_extractor_class": LearningEncoder, "features_extractor_kwargs": {**others, **described}}


def begin_with(policy: nn.Module, encoder: FrozenEncoder) -> None:
    """Give every `LearningEncoder` in a policy, those of target networks too, the weights and the statistics of an encoder."""
    weights = encoder.model.state_dict()
    for part in policy.modules():
        if isinstance(part, LearningEncoder):
            part.encoder.load_state_dict({name: weights[name] for name in part.encoder.state_dict()})
            part.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            part.scaled.load_state_dict(encoder.scaling.state_dict())


def refuse_not_learning(encoder: PictureEncoder) -> None:
    """Raise `UserError` for an encoder that cannot learn end to end as part of a policy."""
    name = f"a '{encoder.info.name}'"
    if not isinstance(encoder, FrozenEncoder):
        raise UserError(f"{name}: pixels_same and finetuned learn one encoder, whose weights are here: name its folder, no service")
    if encoder.has_memory or encoder.action_size:
        raise UserError(f"{name} has memory, and a policy learns from single pictures: pixels_same and finetuned need one without")
    if parts_of(encoder.model):
        raise UserError(f"{name} stands on another encoder, which stays as it is: pixels_same and finetuned need one that stands alone")
    if not used_parameters(encoder.model, encoder.reading):
        raise UserError(f"{name} is computed, not trained: there is nothing for pixels_same and finetuned to learn")
