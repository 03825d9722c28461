"""What a comparison is asked for: tasks, algorithms, rows, seeds; and which comparisons are joined into one report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from agents.learning.learner import Learner
from agents.run.config import LEARNING, PIXEL_ROWS, SEEING_NO_ENCODER, Control, TrainingConfig
from agents.run.options import agent_settings, own_agent, read_command, take_words
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
    """Rows beside the encoders; pixels_same, finetuned, untrained, pca and supervised mirror the first encoder."""
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
        for control in self.controls:
            if control in LEARNING:
                self.refuse_learning(control, self.encoders[0])


@dataclass(frozen=True)
class Origin:
    """Where a row's settings come from."""

    preset: str
    """Name of the agent preset."""
    tuning: str | None = None
    """How they were found, as the preset says under `tuning`."""


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
    learning: Mapping[str, Learner] = field(default_factory=dict)
    """Those of the controls whose encoder learns with the agent."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Of the settings of each control that has its own, and under "" of those on latents."""

    def algorithm_of(self, control: Control | None) -> Learner:
        """Return the settings of a control's row, or (None) of an encoder's."""
        return self.pixels if control == "pixels" else self.learning.get(control or "", self.shared.algorithm)


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
    `--pixel-agent AGENT_PRESET ...` gives the rows on pixels settings from other presets, each for the agents of its algorithm.
    Raises `UserError` where two presets have one name, or where what the parts must share is not the same in all presets.
    """
    count = next((position for position, word in enumerate(argv) if word.startswith("-")), len(argv))
    rest, agents = take_words(argv[count:], "--agent")
    rest, on_pixels = take_words(rest, "--pixel-agent")
    tasks = list(dict.fromkeys(argv[:count]))
    if not tasks:
        # says what there is, or helps
        read_command(ComparisonConfig, description, argv)
    parts = []
    for task in tasks:
        for agent in dict.fromkeys(agents or [own_agent(read_preset("env", task))]):
            try:
                parts.append(_part(description, task, agent, on_pixels, rest))
            except UserError as error:
                raise UserError(f"{task} with {agent}: {error}") from error
    _refuse_unused(on_pixels, parts)
    _refuse_clashes(parts)
    return parts


def _part(description: str, task: str, agent: str, on_pixels: Sequence[str], rest: Sequence[str]) -> PartConfig:
    """Read the settings of one task with one algorithm: on latents, and of the rows on pixels, from one of the presets `on_pixels`."""
    shared = read_command(ComparisonConfig, description, [task, "--agent", agent, *rest], control="")
    found, origins = dict[str, Learner](), {"": _origin(agent, "", own=True)}
    for row in PIXEL_ROWS:
        own = next((one for one in on_pixels if agent_settings(one, row).get("kind", "ppo") == shared.algorithm.kind), None)
        words = [task, "--agent", own or agent, *rest]
        found[row] = read_command(ComparisonConfig, description, words, control=row, layers_of=agent if own else None).algorithm
        origins[row] = _origin(own or agent, row, own is not None)
    return PartConfig(_preset_name(task), _preset_name(agent), shared, found.pop("pixels"), found, origins)


def _origin(preset: str, row: str, own: bool) -> Origin:
    """Say where a row's settings come from; what a preset says of all its settings holds for the row whose `own` preset it is.

    It does not for encoders that learn: nobody tuned those with the settings on pixels, unless their own section says so.
    """
    values = read_preset("agent", preset)
    of_all = values.get("tuning") if own and row not in LEARNING else None
    found = values.get(row, {}).get("tuning", of_all) if row else of_all
    if not isinstance(found, str | None):
        raise UserError(f"agent preset '{preset}': 'tuning' must say in words how the settings were found, got {found!r}")
    return Origin(_preset_name(preset), found)


def _refuse_unused(on_pixels: Sequence[str], parts: Sequence[PartConfig]) -> None:
    used = {part.origins["pixels"].preset for part in parts}
    for preset in on_pixels:
        if _preset_name(preset) not in used:
            raise UserError(f"--pixel-agent {preset}: is of an algorithm that no --agent is of, or another one stands before it")


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
