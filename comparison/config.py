"""What a comparison is asked for: tasks, algorithms, rows, seeds; and which comparisons are joined into one report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from agents.learning.learner import Learner
from agents.run.config import SEEING_NO_ENCODER, Control, TrainingConfig
from agents.run.options import own_agent, read_command, take_words
from foundation.errors import UserError
from foundation.limits import MOST_RUNS
from foundation.places import Place
from foundation.presets import read_preset
from foundation.ranges import within

_ONE_FOR_ALL = ("run", "workers", "ray", "remote", "device", "policy_device", "scale")
"""What all parts of a comparison share, whatever their presets say."""


@dataclass(kw_only=True)
class ComparisonConfig(TrainingConfig):
    """Encoders and controls x seeds, on one task with one algorithm."""

    run: Path
    """The comparison's folder; running the same command again, or one with more, runs only what is missing."""
    encoders: tuple[Place, ...] = ()
    """Encoder folders, or addresses of a service (http://HOST:PORT/RUN), one row each; RUN1+RUN2: side by side in one row."""
    controls: tuple[Control, ...] = ()
    """Rows beside the encoders; untrained, pca and supervised mirror the first encoder."""
    seeds: int = 5
    """Agents per row, each with a seed of its own."""
    first_seed: int = 0
    """Seed of the first agent; the others have those that follow."""
    workers: int | None = None
    """Runs at the same time; default: one per CPU core on this machine, as many as fit on a cluster."""

    def check(self) -> None:
        """Raise `UserError` where there is nothing to compare, or nothing for a control to mirror."""
        within(0, 2**32 - 1 - MOST_RUNS, first_seed=self.first_seed)
        within(1, MOST_RUNS, seeds=self.seeds, **({} if self.workers is None else {"workers": self.workers}))
        if not self.encoders and not self.controls:
            raise UserError("nothing to compare: add --encoders FOLDER ... or --controls pixels")
        mirrors = [control for control in self.controls if control not in SEEING_NO_ENCODER]
        if mirrors and not self.encoders:
            raise UserError(f"control '{mirrors[0]}' mirrors an encoder: add --encoders FOLDER")


@dataclass(frozen=True)
class PartConfig:
    """What a command asks for on one task with one algorithm."""

    task: str
    """Name of the environment preset."""
    agent: str
    """Name of the agent preset."""
    shared: ComparisonConfig
    """What its rows share; the algorithm's settings are those on latents."""
    pixels: Learner
    """The algorithm's settings on pixels."""


@dataclass(kw_only=True)
class JoinConfig:
    """Which comparisons are joined, and where the report goes."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished comparisons, or of joined reports."""
    run: Path
    """The report's folder."""

    def check(self) -> None:
        """Raise `UserError` where there are no two folders."""
        if len(self.folders) < 2:
            raise UserError("nothing to join: name two folders or more: python compare_encoders.py join FOLDER FOLDER --run OUT")


def read_grid(description: str, argv: Sequence[str]) -> list[PartConfig]:
    """Parse `ENVIRONMENT_PRESET ... --agent AGENT_PRESET ... [--field value ...]`: every environment with every agent named.

    Where no agent is named, each environment has its preset's own. Options hold for all parts, the rest of a preset for its own.
    Raises `UserError` where two presets have one name, or where what the parts must share is not the same in all presets.
    """
    count = next((position for position, word in enumerate(argv) if word.startswith("-")), len(argv))
    rest, agents = take_words(argv[count:], "--agent")
    tasks = list(dict.fromkeys(argv[:count]))
    if not tasks:
        # says what there is, or helps
        read_command(ComparisonConfig, description, argv)
    parts = []
    for task in tasks:
        for agent in dict.fromkeys(agents or [own_agent(read_preset("env", task))]):
            words = [task, "--agent", agent, *rest]
            try:
                shared, pixels = (read_command(ComparisonConfig, description, words, pixels=pixels) for pixels in (False, True))
            except UserError as error:
                raise UserError(f"{task} with {agent}: {error}") from error
            parts.append(PartConfig(_preset_name(task), _preset_name(agent), shared, pixels.algorithm))
    _refuse_clashes(parts)
    return parts


def _preset_name(preset: str) -> str:
    return Path(preset).stem if preset.endswith((".yaml", ".yml")) else preset


def _refuse_clashes(parts: Sequence[PartConfig]) -> None:
    names = [(part.task, part.agent) for part in parts]
    for task, agent in names:
        if names.count((task, agent)) > 1:
            raise UserError(f"two presets are called '{task}' with '{agent}': their runs would share a folder; rename one of the files")
    for key in _ONE_FOR_ALL:
        if any(getattr(part.shared, key) != getattr(parts[0].shared, key) for part in parts):
            raise UserError(f"the environment presets do not agree on '{key}', which is one for all; say it on the command line")
