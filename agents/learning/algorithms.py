"""Reinforcement learning algorithms by name: settings that make Stable-Baselines3 objects.

Another algorithm is another settings class with an entry in `ALGORITHMS` and presets in `configs/agent/`.
"""

from typing import Any

from agents.learning.learner import Learner, policy_name
from agents.learning.off_policy import DQNSettings, QRDQNSettings, SACSettings, TD3Settings
from agents.learning.on_policy import A2CSettings, MaskablePPOSettings, PPOSettings, RecurrentPPOSettings
from foundation.errors import UserError, nearest
from foundation.presets import build

ALGORITHMS: dict[str, type[Learner]] = {
    "ppo": PPOSettings,
    "a2c": A2CSettings,
    "dqn": DQNSettings,
    "qrdqn": QRDQNSettings,
    "recurrent_ppo": RecurrentPPOSettings,
    "maskable_ppo": MaskablePPOSettings,
    "sac": SACSettings,
    "td3": TD3Settings,
}

__all__ = ["ALGORITHMS", "Learner", "PPOSettings", "build_algorithm", "policy_name", "settings_class"]


def settings_class(values: dict[str, Any]) -> type[Learner]:
    """Return the settings class that `kind` names; PPO where there is no `kind`."""
    kind = values.get("kind", "ppo")
    if kind not in ALGORITHMS:
        raise UserError(f"unknown algorithm.kind {kind!r}: {nearest(str(kind), ALGORITHMS)}")
    return ALGORITHMS[kind]


def build_algorithm(values: Any) -> Learner:
    """Make settings from a mapping, strictly: an unknown key or a wrong type is a `UserError`."""
    if not isinstance(values, dict):
        raise UserError(f"'algorithm' must hold a mapping of keys to values, got {values!r}")
    return build(settings_class(values), values, "algorithm")
