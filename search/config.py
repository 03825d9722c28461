"""What a search is asked for."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.run.config import AgentRun
from agents.run.options import read_command
from foundation.errors import UserError
from foundation.limits import MOST_INTEGER, MOST_RUNS
from foundation.ranges import within

FIRST_SEED = 1000
"""The agents of every trial have this seed and the following, unless told others; comparisons count from 0, so that theirs are new."""

DESCRIPTION = """Search hyperparameters of agents, or of the encoders they look through. Running the command again goes on.

Beside the options below: --agent PRESET, algorithm and settings, of configs/agent/ or a YAML file (default: the environment preset's), and
--env.NAME VALUE, an option of the environment, such as --env.palette autumn."""


@dataclass(kw_only=True)
class SearchConfig(AgentRun):
    """Trials of one agent with hyperparameters drawn from a space."""

    run: Path
    """The search's folder; running the same command again, or one with more trials, runs only what is missing."""
    space: str
    """What varies: a preset of configs/search/, or a YAML file."""
    trials: int = 20
    """Trials in total; you can add more later."""
    seed: int = 0
    """What trials are drawn from."""
    seeds: int = 1
    """Agents per trial, one after another; the trial's score is their mean."""
    first_seed: int = FIRST_SEED
    """Seed of each trial's first agent; the others have those that follow."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha: trials whose evaluations are behind those of others are stopped early; none: every trial does all steps."""
    first_rung: int | None = None
    """Steps after which ASHA first stops trials; default: steps / reduction^2, and no less than evaluation.every."""
    reduction: int = 3
    """ASHA keeps about one trial in this many at a rung, and the next rung is at this many times the steps."""
    workers: int | None = None
    """Trials at the same time; default: one a CPU core."""
    encoder_preset: str | None = None
    """Preset of configs/encoder/ or a YAML file, for spaces with keys under `encoder.`: each trial trains its own, on --store."""
    encoder_steps: int | None = None
    """Training steps of such an encoder; default: the preset's."""

    def check(self) -> None:
        """Raise `UserError` where options do not go together."""
        for name in ("trials", "seeds", "workers", "encoder_steps"):
            if getattr(self, name) is not None:
                within(1, MOST_INTEGER if name == "encoder_steps" else MOST_RUNS, **{name: getattr(self, name)})
        within(0, 2**32 - 1, seed=self.seed)
        within(0, 2**32 - 1 - MOST_RUNS, first_seed=self.first_seed)
        within(2, MOST_INTEGER, reduction=self.reduction)
        if self.first_rung is not None and self.first_rung < self.evaluation.every:
            raise UserError(f"'first_rung' must be at least evaluation.every = {self.evaluation.every}, got {self.first_rung}")
        if self.control == "supervised":
            once = "train one agent on it (train_agent.py --control supervised --run RUN) and search with --encoder RUN/encoder"
            raise UserError(f"--control supervised would train an encoder for every trial: {once}")
        if self.encoder_preset is None:
            super().check()
            return
        if self.encoder is not None or self.control is not None:
            raise UserError("--encoder-preset trains the encoders that agents see; leave out --encoder and --control")
        if self.store is None:
            raise UserError("--encoder-preset needs the frames to train on: add --store STORE")

    @property
    def rungs(self) -> list[int]:
        """Steps at which ASHA may stop trials: those after which an evaluation lies that is not the last."""
        if self.scheduler == "none":
            return []
        first = self.first_rung or max(self.evaluation.every, math.ceil(self.steps / self.reduction**2))
        counts = (first * self.reduction**power for power in range(64))
        return list(itertools.takewhile(lambda rung: self._evaluated_from(rung) < self.steps, counts))

    def passed(self, step: int) -> int:
        """Return how many rungs lie behind a trial that was evaluated at `step`."""
        return sum(rung <= step for rung in self.rungs)

    def _evaluated_from(self, rung: int) -> int:
        """Return the step of the first evaluation at `rung` steps or later: the first look at a run after it is due."""
        every, look = self.evaluation.every, self.algorithm.boundary_steps(self.evaluation.every)
        steps = (-(-count * every // look) * look for count in (rung // every, rung // every + 1))
        return next(step for step in steps if step >= rung)


def read_search(argv: Sequence[str]) -> SearchConfig:
    """Parse the command line of `tune_agent.py`, whose presets and options are those of `train_agent.py`, and a search's own."""
    return read_command(SearchConfig, DESCRIPTION, argv)
