"""What every algorithm's settings share: which actions and pictures it takes, where it runs, how much memory it needs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from foundation.errors import UserError

_LEAST_SIDE = 36
_CNN_FEATURES = 512
"""What `CnnPolicy` takes from a picture; `MultiInputPolicy` takes 256 unless told."""
_MOST_OF_MEMORY = 0.9
_BOUNDARY_STEPS = 256
"""Algorithms that learn after every few steps are looked at no more often than this."""


@dataclass
class Learner:
    """Settings of an algorithm, with Stable-Baselines3's names; `make` makes its object.

    Nothing here depends on the number of steps of a run, so that a longer run goes on from a shorter one.
    """

    kind: str = ""
    n_envs: int = 8
    """Environments stepped at the same time."""
    learning_rate: float = 3e-4
    gamma: float = 0.99
    net_arch: tuple[int, ...] = (128, 128)
    """Hidden layers of each network, behind the CNN where there is one."""

    algorithm: ClassVar[type[BaseAlgorithm]]
    takes: ClassVar[tuple[type[spaces.Space], ...]]
    """Action spaces it can act in."""
    needs_masks: ClassVar[bool] = False
    policy_family: ClassVar[str] = ""
    """What stands between Cnn, Mlp or MultiInput and Policy in the names of its policies."""
    own: ClassVar[tuple[str, ...]] = ("kind", "n_envs", "net_arch")
    """Settings that are not the algorithm's keywords."""

    @property
    def chunk(self) -> int:
        """Agent steps between two moments at which nothing is under way: no rollout half collected, no update half made."""
        raise NotImplementedError

    def boundary_steps(self, most: int) -> int:
        """Return the agent steps between two looks at a run, whole chunks: 256, less only where `most` is less."""
        return -(-min(_BOUNDARY_STEPS, most) // self.chunk) * self.chunk

    def stored_steps(self) -> tuple[int, int, str]:
        """Return how many agent steps are kept in memory, observations kept of each, and the option that says so."""
        raise NotImplementedError

    def for_playing(self) -> "Learner":
        """Return the settings of the same networks with one environment and next to no memory."""
        raise NotImplementedError

    @property
    def epsilon(self) -> float:
        """Chance of a random action when an agent that explores that way is evaluated without `deterministic`."""
        return 0.0

    def policy_options(self) -> dict[str, Any]:
        """Return what the policy is made with, beside its features extractor."""
        raise NotImplementedError

    def keywords(self, venv: VecEnv) -> dict[str, Any]:
        """Return the algorithm's keywords."""
        return {key: value for key, value in asdict(self).items() if key not in self.own}

    def make(self, venv: VecEnv, seed: int, device: str, policy_device: str = "auto") -> BaseAlgorithm:
        """Return a fresh algorithm on `venv`; seeds Python, numpy and torch.

        A policy with a CNN goes to `device`, one on numbers alone to the CPU, unless `policy_device` says where. Raises `UserError`
        where actions or pictures do not fit, or memory does not suffice.
        """
        self.refuse_misfit(venv.action_space, venv.has_attr("action_masks"))
        self._refuse_too_large(venv)
        space = venv.observation_space
        pictures = _pictures(space)
        options = self.policy_options()
        if pictures and isinstance(space, spaces.Dict):
            options["features_extractor_kwargs"] = {"cnn_output_dim": _CNN_FEATURES}
        chosen = (device if pictures else "cpu") if policy_device == "auto" else policy_device
        name = policy_name(space, self.policy_family)
        made = self.algorithm(name, venv, seed=seed, device=chosen, policy_kwargs=options, **self.keywords(venv))
        made.set_logger(Logger(folder=None, output_formats=[]))
        return made

    def refuse_misfit(self, actions: spaces.Space, masks: bool) -> None:
        """Raise `UserError` where the algorithm cannot act in `actions`, or needs masks of them and there are none."""
        if not isinstance(actions, self.takes):
            wanted = "continuous actions" if self.takes == (spaces.Box,) else "a choice of actions"
            raise UserError(
                f"agent '{self.kind}' needs {wanted}, and this environment's are {actions}: agents that fit are "
                f"{', '.join(fitting(actions, masks))}; --environment.continuous says which of both MineRL's actions become"
            )
        if self.needs_masks and not masks:
            raise UserError(
                f"agent '{self.kind}' needs an environment that says which actions do something (a method action_masks), "
                f"and this one does not: agents that fit are {', '.join(fitting(actions, masks))}"
            )

    def memory_bytes(self, observations: spaces.Space, actions: spaces.Space) -> int:
        """Return the bytes of the steps kept in memory, observations and actions."""
        steps, copies, _ = self.stored_steps()
        return steps * (copies * _bytes(observations) + _bytes(actions) + 12)

    def _refuse_too_large(self, venv: VecEnv) -> None:
        needed, there = self.memory_bytes(venv.observation_space, venv.action_space), free_memory()
        if there is not None and needed > _MOST_OF_MEMORY * there:
            steps, _, option = self.stored_steps()
            raise UserError(
                f"{steps:,} steps in memory take {needed / 1e9:.1f} GB and {there / 1e9:.1f} GB are free: "
                f"lower --algorithm.{option.replace('_', '-')}"
            )

    def _at_least(self, least: float, *names: str) -> None:
        for name in names:
            if getattr(self, name) < least:
                raise UserError(f"'algorithm.{name}' must be at least {least}, got {getattr(self, name)}")


def free_memory() -> int | None:
    """Return the bytes that this machine can still give to programs, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def fitting(actions: spaces.Space, masks: bool) -> list[str]:
    """Return the kinds of algorithm that can act in `actions`."""
    from agents.learning.algorithms import ALGORITHMS

    return [kind for kind, one in ALGORITHMS.items() if isinstance(actions, one.takes) and (masks or not one.needs_masks)]


def policy_name(space: spaces.Space, family: str = "") -> str:
    """Return the policy for an observation space: the same CNN for a picture alone and for one in a dictionary."""
    if isinstance(space, spaces.Dict):
        return f"MultiInput{family}Policy"
    return f"{'Cnn' if is_image_space(space) else 'Mlp'}{family}Policy"


def _pictures(space: spaces.Space) -> list[spaces.Space]:
    """Return the pictures in an observation; raise `UserError` for those that Stable-Baselines3's CNN (strides 4, 2, 1) cannot take."""
    pictures = [entry for entry in (space.spaces.values() if isinstance(space, spaces.Dict) else [space]) if is_image_space(entry)]
    for entry in pictures:
        if min(entry.shape[:2]) < _LEAST_SIDE:  # type: ignore[index]
            raise UserError(f"pictures of {entry.shape}: the CNN on pixels needs sides of at least {_LEAST_SIDE}; choose a larger picture")
    return pictures


def _bytes(space: spaces.Space) -> int:
    if isinstance(space, spaces.Dict):
        return sum(_bytes(one) for one in space.spaces.values())
    return int(np.prod(space.shape or (1,))) * np.dtype(space.dtype or np.float32).itemsize
