"""What every algorithm's settings share: how it acts, which pictures it takes, where it runs, how much memory it needs.

Settings are read with every command line: gymnasium, torch and Stable-Baselines3 are imported where they are first needed.
"""

import importlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from agents.learning.ranges import check_settings
from foundation.errors import UserError, in_one_line
from foundation.ranges import at_least

if TYPE_CHECKING:
    from gymnasium import spaces
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

Acts = Literal["choice", "choices", "continuous"]

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
    """Hidden layers of each network, behind the CNN or the set policy where there is one."""
    set_policy: Literal["deepsets", "attention", "flat"] = "deepsets"
    """What stands before them where latents are a set: features that do not depend on the order of its rows; flat is without."""
    set_width: int = 64
    """Units of the set policy's layers."""

    algorithm: ClassVar[str]
    """Stable-Baselines3's class, or one derived from it, as MODULE:CLASS."""
    acts: ClassVar[tuple[Acts, ...]]
    """Which actions: a choice (`Discrete`), several choices (`MultiDiscrete`), continuous ones (`Box`)."""
    needs_masks: ClassVar[bool] = False
    policy_family: ClassVar[str] = ""
    """What stands between Cnn, Mlp or MultiInput and Policy in the names of its policies."""
    own: ClassVar[tuple[str, ...]] = ("kind", "n_envs", "net_arch", "set_policy", "set_width")
    """Settings that are not the algorithm's keywords."""

    def __post_init__(self) -> None:
        check_settings(self)

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

    def keywords(self, venv: "VecEnv") -> dict[str, Any]:
        """Return the algorithm's keywords."""
        return {key: value for key, value in asdict(self).items() if key not in self.own}

    def make(self, venv: "VecEnv", seed: int, device: str, policy_device: str = "auto", encoder: Any = None) -> "BaseAlgorithm":
        """Return a fresh algorithm on `venv`; seeds Python, numpy and torch.

        A policy on pictures begins with a CNN, or with an `encoder` (`FrozenEncoder`) that learns on. It goes to `device`, one on numbers
        to the CPU, unless `policy_device` says where. Raises `UserError` where actions or pictures do not fit, or memory does not suffice.
        """
        from stable_baselines3.common.logger import Logger

        from agents.learning.spaces import pictures, policy_name
        from wrappers.features import begin_with, extractor_options

        if misfit := self.misfit(venv.action_space, venv.has_attr("action_masks")):
            raise UserError(misfit)
        self._refuse_too_large(venv)
        space = venv.observation_space
        seen = encoder is not None or pictures(space)
        options = self.policy_options()
        pooling = "flat" if "features_extractor_class" in options else self.set_policy
        options |= extractor_options(venv, pooling, self.set_width, encoder)
        chosen = (device if seen else "cpu") if policy_device == "auto" else policy_device
        algorithm, name = self.algorithm_class(), policy_name(space, self.policy_family)
        # each algorithm has keywords of its own
        made: BaseAlgorithm = algorithm(name, venv, seed=seed, device=chosen, policy_kwargs=options, **self.keywords(venv))
        if encoder is not None:
            begin_with(made.policy, encoder)
        made.set_logger(Logger(folder=None, output_formats=[]))
        return made

    def misfit(self, actions: "spaces.Space", masks: bool) -> str | None:
        """Return why the algorithm cannot act in `actions`, for their kind or since there are no masks of them; None: it can."""
        from agents.learning.spaces import acts

        if acts(actions) not in self.acts:
            wanted = "continuous actions" if self.acts == ("continuous",) else "a choice of actions"
            either = "--environment.continuous says which of both MineRL's actions become"
            if acts(actions) == "other":
                either = "wrappers.PlainActions makes such actions plain"
            return f"agent '{self.kind}' needs {wanted}, and this environment's are {in_one_line(actions)} ({either})"
        if self.needs_masks and not masks:
            needed = "an environment that says which actions do something (a method action_masks)"
            return f"agent '{self.kind}' needs {needed}, and this one does not"
        return None

    def memory_bytes(self, observations: "spaces.Space", actions: "spaces.Space") -> int:
        """Return the bytes of the steps kept in memory, observations and actions."""
        from agents.learning.spaces import byte_size

        steps, copies, _ = self.stored_steps()
        return steps * (copies * byte_size(observations) + byte_size(actions) + 12)

    def _refuse_too_large(self, venv: "VecEnv") -> None:
        from agents.learning.spaces import free_memory

        needed, there = self.memory_bytes(venv.observation_space, venv.action_space), free_memory()
        if there is not None and needed > _MOST_OF_MEMORY * there:
            steps, _, option = self.stored_steps()
            raise UserError(
                f"{steps:,} steps in memory take {needed / 1e9:.1f} GB and {there / 1e9:.1f} GB are free: "
                f"lower --algorithm.{option.replace('_', '-')}"
            )

    @classmethod
    def algorithm_class(cls) -> Any:
        """Import the class that `algorithm` names."""
        module, _, name = cls.algorithm.partition(":")
        return getattr(importlib.import_module(module), name)

    def _at_least(self, least: float, *names: str) -> None:
        at_least(least, **{f"algorithm.{name}": getattr(self, name) for name in names})
