"""Reinforcement learning algorithms: settings by name, made into Stable-Baselines3 objects.

Another algorithm is another settings class here, with the same `make`, and an entry in `ALGORITHMS`.
"""

from dataclasses import asdict, dataclass
from typing import Any

from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from foundation.errors import UserError


@dataclass
class PPOSettings:
    """Proximal policy optimisation (Schulman et al. 2017); names as in Stable-Baselines3.

    Nothing here depends on the number of steps of a run, so that a longer run goes on from a shorter one.
    """

    n_envs: int = 8
    n_steps: int = 128
    """Steps of each environment in a rollout."""
    batch_size: int = 256
    n_epochs: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    net_arch: tuple[int, ...] = (128, 128)
    """Hidden layers of the policy and of the value function, behind the CNN where there is one."""

    def __post_init__(self) -> None:
        rollout = self.n_envs * self.n_steps
        if min(self.n_envs, self.n_steps, self.batch_size, self.n_epochs) < 1:
            raise UserError("'algorithm': n_envs, n_steps, batch_size and n_epochs must be at least 1")
        if self.batch_size < 2:
            raise UserError("'algorithm.batch_size' must be at least 2: advantages are standardised over a batch")
        if self.batch_size > rollout or rollout % self.batch_size:
            raise UserError(f"'algorithm.batch_size' must divide a rollout of n_envs x n_steps = {rollout}, got {self.batch_size}")

    def make(self, venv: VecEnv, seed: int, device: str) -> BaseAlgorithm:
        """Return a fresh PPO on `venv`; seeds Python, numpy and torch."""
        keywords: dict[str, Any] = asdict(self)
        layers = list(keywords.pop("net_arch"))
        del keywords["n_envs"]
        policy_options: dict[str, Any] = {"net_arch": {"pi": layers, "vf": layers}}
        pictures = _pictures(venv.observation_space)
        if pictures and isinstance(venv.observation_space, spaces.Dict):
            policy_options["features_extractor_kwargs"] = {"cnn_output_dim": _CNN_FEATURES}
        algorithm = PPO(
            policy_name(venv.observation_space),
            venv,
            seed=seed,
            device=device if pictures else "cpu",
            policy_kwargs=policy_options,
            **keywords,
        )
        algorithm.set_logger(Logger(folder=None, output_formats=[]))
        return algorithm


_LEAST_SIDE = 36
_CNN_FEATURES = 512
"""What `CnnPolicy` takes from a picture; `MultiInputPolicy` takes 256 unless told."""

ALGORITHMS = {"ppo": PPOSettings}


def _pictures(space: spaces.Space) -> list[spaces.Space]:
    """Return the pictures in an observation; raise `UserError` for those that Stable-Baselines3's CNN (strides 4, 2, 1) cannot take."""
    pictures = [entry for entry in (space.spaces.values() if isinstance(space, spaces.Dict) else [space]) if is_image_space(entry)]
    for entry in pictures:
        if min(entry.shape[:2]) < _LEAST_SIDE:  # type: ignore[index]
            raise UserError(f"pictures of {entry.shape}: the CNN on pixels needs sides of at least {_LEAST_SIDE}; choose a larger picture")
    return pictures


def policy_name(space: spaces.Space) -> str:
    """Return the policy for an observation space: the same CNN for a picture alone and for one in a dictionary."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"
