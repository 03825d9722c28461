"""A trained agent as a player: what it plays is recorded tick by tick, exactly as play_agent.py would play it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from agents.films import playable, seated
from agents.play_config import PlayConfig
from agents.run.agent_files import read_agent
from agents.run.environment import bare_environments
from foundation.env_options import Scalar
from foundation.errors import UserError
from foundation.places import Place

_DIGITS = 8


class AgentPlayer:
    """Plays episodes with the newest checkpoint of a run: in its own wrappers, over an environment that somebody watches.

    `name` tells the run, the steps it was trained for, and its weights; `options` are those of its environment, with others over them.
    Where not `deterministic` actions are drawn as in evaluation. An episode depends on its seed alone.

    Raises `UserError` for a folder without an agent, and for one that was trained in another environment.
    """

    def __init__(
        self, folder: Path, environment: str, options: Mapping[str, Scalar], *, encoder: Place | None = None, deterministic: bool = False
    ) -> None:
        trained_in = read_agent(folder)["settings"]["environment"].get("name")
        if trained_in != environment:
            raise UserError(f"--players {folder}: that agent was trained in {trained_in}; record it with --source {trained_in}")
        self.folder, self._given = folder, options
        self._config = PlayConfig(environment=environment, encoder=encoder, deterministic=deterministic)
        about, config = playable(folder, self._config, options)
        self.options = config.options
        who = "deterministic agent" if deterministic else "agent"
        # no comma: it parts a player from what is played in an episode's source
        run = folder.resolve().name.replace(",", "")
        self.name = f"{who} {run} at {about['steps']} steps ({about['weights_sha256'][:_DIGITS]})"
        self._seat: Any = None
        self._env: gymnasium.Env | None = None

    def play(self, env: gymnasium.Env, seed: int) -> Iterator[None]:
        """Play the world of `seed` in `env`; yield after the reset and after every agent step."""
        if self._env is not env:
            # made anew for each environment that it is asked to play in, which is one for a recording
            self._seat, self._env = seated(self.folder, self._config, self._given, make=lambda: env), env
        venv, acting, _ = self._seat
        bare_environments(venv)[0].seed_of = lambda _: seed
        torch.manual_seed(seed)
        acting.begin(seed)
        observation, dones = venv.reset(), np.array([True])
        yield
        over = False
        while not over:
            observation, _, dones, _ = venv.step(acting(observation, dones))
            over = bool(dones[0])
            yield
