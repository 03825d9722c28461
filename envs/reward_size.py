"""Rewards that are too large to learn from as they come."""

import math
from collections.abc import Sequence
from typing import Any

from foundation.telling import tell

_AHEAD = 100
"""Agent steps whose rewards a value sums up, about: those that discounts of 0.99 leave."""
_LARGE, _FITTING = 100.0, 10.0


def tell_of_large_values(name: str, episodes: Sequence[dict[str, Any]], scale: float) -> None:
    """Tell the user where the rewards of ended episodes, times `scale`, come to values whose errors drown what a policy learns from.

    `episodes` are as Stable-Baselines3's Monitor tells them: return `r`, length `l` in agent steps.
    """
    steps = sum(one["l"] for one in episodes)
    if not steps:
        return
    value = scale * abs(sum(one["r"] for one in episodes)) / steps * min(_AHEAD, steps / len(episodes))
    if math.isfinite(value) and value > _LARGE:
        fitting = scale * 10.0 ** -math.ceil(math.log10(value / _FITTING))
        tell(
            f"{name}: rewards come to values beyond {_LARGE:.0f}, whose errors drown what a policy learns from; "
            f"--environment.reward-scale {fitting:.3g} would bring them below {_FITTING:.0f}"
        )
