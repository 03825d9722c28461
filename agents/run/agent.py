"""The agent of a run: what it sees through, where it acts, what learns."""

from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.run.config import LEARNING, AgentRun
from agents.run.environment import Seen, training_environments
from encoders.training.devices import choose_device
from wrappers import PictureEncoder, open_encoder
from wrappers.frozen_encoder import placed
from wrappers.opening import Through

_LOGGED = ("train/", "rollout/exploration_rate")


@dataclass(frozen=True)
class Agent:
    """An algorithm on its training environments."""

    seen: Seen
    venv: VecEnv
    algorithm: BaseAlgorithm
    placed: dict[str, str | None]
    """Devices that the policy and the encoder are on."""
    encoder: PictureEncoder | None
    """The encoder it sees through, or that learned with it from here on; None on pixels and for an oracle."""

    @property
    def frozen(self) -> PictureEncoder | None:
        """The encoder it sees through, where that stays as it is."""
        return None if isinstance(self.seen, str) else self.seen

    @property
    def steps(self) -> int:
        """Agent steps that the algorithm has seen."""
        return int(self.algorithm.num_timesteps)

    def take_losses(self) -> dict[str, float]:
        """Return what the algorithm has logged since the last time."""
        recorded = self.algorithm.logger.name_to_value
        losses = {name: float(value) for name, value in recorded.items() if name.startswith(_LOGGED)}
        recorded.clear()
        return losses

    def whereabouts(self) -> str:
        """Say where policy and encoder are."""
        return ", ".join(f"{name} on {device}" for name, device in self.placed.items() if device)


def make_agent(config: AgentRun, through: Through | None) -> Agent:
    """Make a fresh agent that sees `through` an encoder (None: pixels, or the state); seeds Python, numpy and torch."""
    device = choose_device(config.device).type
    encoder = None if through is None else open_encoder(through, device, flat=config.algorithm.set_policy == "flat")
    seen, learned = seen_and_learned(config.control, encoder)
    venv = training_environments(config.environment, config.algorithm.n_envs, config.seed, seen, config.remote)
    policy_device = "auto" if config.policy_device == "auto" else choose_device(config.policy_device).type
    algorithm = config.algorithm.make(venv, config.seed, device, policy_device, **learned)
    policy = placed("policy", algorithm.policy, algorithm.device)
    return Agent(seen, venv, algorithm, {"encoder": None if learned or encoder is None else encoder.placed(), "policy": policy}, encoder)


def seen_and_learned(control: str | None, encoder: PictureEncoder | None) -> tuple[Seen, dict[str, Any]]:
    """Return what an agent's environments show it, and what `Learner.make` is told of an encoder that learns with it."""
    if control in LEARNING:
        return None, {"encoder": encoder}
    return ("state" if control == "oracle" else encoder), {}
