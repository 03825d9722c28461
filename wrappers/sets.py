"""Sets as observations, such as an encoder's slots, and what a Stable-Baselines3 policy makes of them, whatever the order of their rows.

Shapes: B batch, K rows, F width, H heads.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import Tensor, nn

_HEADS = 4
_ALONE = "set"


class SetSpace(spaces.Box):
    """A `Box` (K, ...) of K rows that have no order: a policy should not depend on which comes first.

    To Stable-Baselines3's own policies it is a `Box` like any other.
    """


class DeepSets(nn.Module):
    """The sum and the largest of what one network makes of each row (Zaheer et al. 2017): (B, K, ...) to (B, 2F)."""

    def __init__(self, row: int, width: int) -> None:
        super().__init__()
        self.of_row = nn.Sequential(nn.Linear(row, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.size = 2 * width

    def forward(self, rows: Tensor) -> Tensor:
        seen_BKF = self.of_row(rows.flatten(2))
        return torch.cat([seen_BKF.sum(1), seen_BKF.amax(1)], -1)


class AttentionPooling(nn.Module):
    """Means over rows of the same, weighed by what learned questions find in them, one a head (Lee et al. 2019): (B, K, ...) to (B, HF)."""

    def __init__(self, row: int, width: int) -> None:
        super().__init__()
        self.of_row = nn.Sequential(nn.Linear(row, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        # a learned question times a row's key is a linear map of the row
        self.questions = nn.Linear(width, _HEADS)
        self.size = _HEADS * width

    def forward(self, rows: Tensor) -> Tensor:
        seen_BKF = self.of_row(rows.flatten(2))
        share_BHK = self.questions(seen_BKF).softmax(1).mT
        return (share_BHK @ seen_BKF).flatten(1)


POOLINGS: dict[str, type[DeepSets] | type[AttentionPooling]] = {"deepsets": DeepSets, "attention": AttentionPooling}


class SetExtractor(CombinedExtractor):
    """Pool every `SetSpace` in an observation; beside them stands what Stable-Baselines3 makes of the rest.

    As `policy_kwargs={"features_extractor_class": SetExtractor}` it serves any policy, on a set alone (`MlpPolicy`) or in a dictionary
    (`MultiInputPolicy`). `kind` is one of `POOLINGS`, `width` the units of its layers.
    """

    def __init__(self, observation_space: spaces.Space, kind: str = "deepsets", width: int = 64, **options: Any) -> None:
        whole = observation_space if isinstance(observation_space, spaces.Dict) else spaces.Dict({_ALONE: observation_space})
        super().__init__(whole, **options)
        for key, space in whole.spaces.items():
            if isinstance(space, SetSpace):
                _, *row = space.shape
                pooling: DeepSets | AttentionPooling = POOLINGS[kind](int(np.prod(row)), width)
                self.extractors[key] = pooling
                self._features_dim += pooling.size - int(np.prod(space.shape))

    def forward(self, observations: Any) -> Tensor:
        return super().forward(observations if isinstance(observations, dict) else {_ALONE: observations})
