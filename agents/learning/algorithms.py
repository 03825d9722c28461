"""Algorithms by name: those of this product, and those of other packages; which of them can act in an environment.

An algorithm is a settings class (`Learner`) that makes a Stable-Baselines3 object. Another package adds one through the entry-point
group `minerl_perception.algorithms`.
"""

import dataclasses
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from agents.learning.learner import Learner
from agents.learning.off_policy import DQNSettings, QRDQNSettings, SACSettings, TD3Settings
from agents.learning.on_policy import A2CSettings, MaskablePPOSettings, PPOSettings, RecurrentPPOSettings
from foundation.errors import UserError, nearest
from foundation.presets import build

if TYPE_CHECKING:
    from gymnasium import spaces

GROUP = "minerl_perception.algorithms"
BUILT_IN: dict[str, type[Learner]] = {
    "ppo": PPOSettings,
    "a2c": A2CSettings,
    "dqn": DQNSettings,
    "qrdqn": QRDQNSettings,
    "recurrent_ppo": RecurrentPPOSettings,
    "maskable_ppo": MaskablePPOSettings,
    "sac": SACSettings,
    "td3": TD3Settings,
}


def build_algorithm(values: Any) -> Learner:
    """Make settings from a mapping, strictly: an unknown key or a wrong type is a `UserError`."""
    if not isinstance(values, dict):
        raise UserError(f"'algorithm' must hold a mapping of keys to values, got {values!r}")
    return build(settings_class(values), values, "algorithm")


def settings_class(values: dict[str, Any]) -> type[Learner]:
    """Return the settings class that `kind` names; PPO where there is no `kind`. Raises `UserError` where there is none."""
    kind = values.get("kind", "ppo")
    # first: what is built in cannot be replaced
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if kind not in others:
        near = nearest(str(kind), [*BUILT_IN, *others])
        raise UserError(f"unknown algorithm.kind {kind!r}: {near}; if a package adds it, install that package")
    return _load(others[kind])


def refuse_misfit(algorithm: Learner, actions: "spaces.Space", masks: bool) -> None:
    """Raise `UserError` where an algorithm cannot act in `actions`, or needs masks of them and there are none; name those that can."""
    if misfit := algorithm.misfit(actions, masks):
        fitting = [kind for kind, one in BUILT_IN.items() if one().misfit(actions, masks) is None]
        raise UserError(f"{misfit}: agents that fit are {', '.join(fitting)}")


def _load(entry: EntryPoint) -> type[Learner]:
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"the package that adds the algorithm '{entry.name}' cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Learner)):
        raise UserError(f"the entry point '{entry.name}' of {GROUP} is no subclass of agents.learning.learner.Learner")
    kind = next(one.default for one in dataclasses.fields(loaded) if one.name == "kind")
    if kind != entry.name:
        raise UserError(
            f"the entry point '{entry.name}' of {GROUP} names {loaded.__qualname__}, whose kind is '{kind}': they must be equal"
        )
    return loaded
