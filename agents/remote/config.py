"""Environments in Ray actors, as options: how many, where frames become latents, how often one may die."""

from dataclasses import dataclass
from typing import Literal

from foundation.ranges import at_least

ACTOR_CPUS = 0.1
"""What an environment actor asks of Ray, together with evaluation's beside it: environments wait more than they compute."""


@dataclass
class RemoteConfig:
    """Environments in Ray actors, on any node of the cluster: those of training, and as many or fewer actors with evaluation's."""

    actors: int = 0
    """Actors that share the environments (n_envs) and step theirs at the same time; 0: all in the run's own process, in turn."""
    encode: Literal["learner", "worker"] = "learner"
    """Where frames become latents: learner (the same bits as without actors), or worker (on the actors' CPUs: less to send, other bits)."""
    replacements: int = 20
    """How many dead actors are replaced before a run gives up."""
    backoff_seconds: float = 1.0
    """Seconds before replacing an actor that died before it answered; doubles each time."""
    timeout_seconds: float = 1800.0
    """An actor that stays silent this long counts as dead. Minecraft resets take minutes, and games start one at a time."""

    def __post_init__(self) -> None:
        at_least(0, actors=self.actors, replacements=self.replacements, backoff_seconds=self.backoff_seconds)
        at_least(1, timeout_seconds=self.timeout_seconds)
