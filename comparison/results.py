"""What a comparison's runs came to, as plain data: written to `comparison.json`, and read from there.

A `TaskResults` is one environment with its settings; rows of several comparisons on the same task can stand in one.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.run.config import CONTROLS, LEARNING, Control
from comparison.encoder_facts import EncoderFacts
from foundation.documents import read
from foundation.errors import UserError, shown
from foundation.presets import build, to_dict

FORMAT = 3
"""Of comparison.json. 2 had one algorithm a task, whose settings stood among the task's."""
REPORT_FILE = "comparison.json"
ORDER = ("encoder", "control", "player")
"""How the rows of a report stand under one another."""

# Scores that a task's own description calls success, for tasks without a scripted player
_DOCUMENTED_TARGETS = {"Treechop": (64.0, "64 logs, where MineRL ends the episode"), "Navigate": (100.0, "the reward of the goal")}
_TOLD = {"oracle": "told the answers", "supervised": "trained on the answers"}
_AS_THEY_ARE = ("pictures", "commands")


@dataclass(frozen=True)
class Point:
    """A point of a learning curve: the mean return of the evaluation episodes after `step` agent steps."""

    step: int
    score: float
    seconds: float | None = None
    """Of training until then, without evaluation; None for runs made before this was recorded."""


@dataclass(frozen=True)
class Run:
    """One finished agent, or one seed of a player that does not learn."""

    seed: int
    steps: int
    score: float
    """Mean return over the final evaluation episodes."""
    returns: list[float]
    curve: list[Point] = field(default_factory=list)
    seconds: float | None = None
    """Time of training, without evaluation."""
    restarts: int = 0
    """Environments that died and were replaced."""
    attempts: int = 1
    """Times that training was started; above 1 where the run was stopped, or its worker died, and it went on from a checkpoint."""
    evaluation_seconds: float | None = None
    machine: str | None = None
    """Where it trained; None for runs made before this was recorded."""


@dataclass(frozen=True)
class RowResults:
    """A row's finished runs, and what failed."""

    key: str
    label: str
    kind: Literal["encoder", "control", "player"]
    runs: list[Run]
    failures: list[str] = field(default_factory=list)
    """What kept a seed from a result."""
    player: Literal["random", "scripted"] | None = None
    algorithm: str | None = None
    """None for players, which do not learn."""
    encoder: EncoderFacts | None = None
    policy_parameters: int | None = None
    learning_parameters: int | None = None
    """Numbers that training changes; None for runs made before they were counted."""
    own_settings: dict[str, Any] = field(default_factory=dict)
    """The algorithm's settings in which the row differs from rows on latents."""
    preset: str | None = None
    """The agent preset that its settings are from."""
    tuning: str | None = None
    """How they were found, in that preset's words."""
    pictures: str | None = None
    """Folder with the strip and the film of the first seed's first evaluation episode."""
    control: Control | None = None
    """Which control it is; None for other rows."""

    def __post_init__(self) -> None:
        # reports of before say it in the key alone
        if self.kind == "control" and self.control is None:
            object.__setattr__(self, "control", _control_in(self.key))

    @property
    def scores(self) -> list[float]:
        return [run.score for run in self.runs]

    @property
    def told(self) -> str | None:
        """How a row that is a reference, and no rival, came to know the answers; None for others."""
        return _TOLD.get(self.control or "")

    @property
    def seconds(self) -> float | None:
        """Mean time of training."""
        times = [run.seconds for run in self.runs if run.seconds is not None]
        return float(np.mean(times)) if times else None

    @property
    def steps(self) -> float | None:
        """Mean agent steps of a run; None for players and where no run finished."""
        return None if self.player or not self.runs else float(np.mean([run.steps for run in self.runs]))

    @property
    def frozen_parameters(self) -> int | None:
        """Numbers that a frame passes through and that stay as they are; None for players and where that is not known."""
        if self.player is not None:
            return None
        if self.encoder is None or self.control in LEARNING:
            return 0
        return self.encoder.used_parameters

    @property
    def machines(self) -> list[str]:
        """Where its runs trained, as far as they say."""
        return list(dict.fromkeys(run.machine for run in self.runs if run.machine))

    @property
    def restarts(self) -> int:
        """Environments that died and were replaced, in all runs."""
        return sum(run.restarts for run in self.runs)

    @property
    def run_restarts(self) -> int:
        """Times that a run of the row was started again."""
        return sum(run.attempts - 1 for run in self.runs)


def _control_in(key: str) -> Control | None:
    """Return the control that a row's key names, with what was said of a reading or a scale: .../untrained_scale_global-1a2b3c4d."""
    name = key.rpartition("/")[2]
    # pixels_same begins as pixels does
    return max((one for one in CONTROLS if re.match(f"{one}([-_@]|$)", name)), key=len, default=None)


@dataclass(frozen=True)
class Target:
    """What a task's scores are measured against: 0 is the random policy's mean return, 1 is `score`."""

    random: float
    score: float
    source: str

    def normalised(self, scores: Any) -> np.ndarray:
        return (np.asarray(scores, float) - self.random) / (self.score - self.random)


@dataclass(frozen=True)
class TaskResults:
    """All rows of one task, and how they were made."""

    name: str
    """The environment's; with what tells it apart where a report has several of that name."""
    settings: dict[str, Any]
    """All but the algorithms'."""
    algorithms: dict[str, dict[str, Any]]
    """By algorithm: its settings on latents, and under `pixels` those on pixels."""
    commands: list[str]
    versions: dict[str, str]
    rows: list[RowResults]
    source: str
    """Name of the comparison's folder."""
    variant: str = ""
    """What tells it apart from another task in the same environment: its preset, and how agents act."""

    @property
    def steps(self) -> int:
        return int(self.settings["steps"])

    @property
    def frame_skip(self) -> int:
        return int(self.settings["environment"]["frame_skip"])

    @property
    def step_length(self) -> str:
        """How long an agent step is, in words."""
        return "1 game tick" if self.frame_skip == 1 else f"{self.frame_skip} game ticks"

    @property
    def evaluation(self) -> dict[str, Any]:
        return self.settings["evaluation"]

    @property
    def seeds(self) -> int:
        """Seeds asked for."""
        return int(self.settings["seeds"])

    @property
    def unit(self) -> str:
        return "logs" if self.name.startswith(("MineRLTreechop", "VoxelTreechop")) else ""

    @property
    def target(self) -> Target | None:
        """The random policy's and the scripted player's scores, or a documented goal; None where neither is known."""
        played = {row.player: float(np.mean(row.scores)) for row in self.rows if row.player and row.runs}
        if "random" not in played:
            return None
        score, source = played.get("scripted"), "the scripted player's mean return"
        if score is None:
            known = [entry for part, entry in _DOCUMENTED_TARGETS.items() if self.name.startswith((f"MineRL{part}", f"Voxel{part}"))]
            score, source = known[0] if known else (None, "")
        return None if score is None or score <= played["random"] else Target(played["random"], score, source)


def read_results(folder: str | Path) -> list[TaskResults]:
    """Read the `comparison.json` of a comparison's folder, or of a joined report's.

    Raises `UserError` for a folder without one, and for one that is damaged or of another version.
    """
    path = Path(folder) / REPORT_FILE
    values = read(path, "name the folder of a finished comparison, or run its command again, which repeats no finished run")
    found = values.get("format") if isinstance(values, dict) else None
    if found not in (2, FORMAT):
        raise UserError(f"{path}: has format {found}, this version reads 2 and {FORMAT}; write it again with the version that made it")
    results = values.get("results")
    if not isinstance(results, list) or not results:
        raise UserError(f"{path}: holds no results; run its comparison's command again")
    current = [_from_format_2(one) for one in results] if found == 2 else results
    return [_resolved(build(TaskResults, _printable(one), f"{path}: results"), path.parent) for one in current]


def _printable(values: Any) -> Any:
    """Return what a file holds with all texts, which may be somebody else's, as they are printed; paths and commands stay what they are."""
    if isinstance(values, dict):
        return {shown(key): one if key in _AS_THEY_ARE else _printable(one) for key, one in values.items()}
    if isinstance(values, list):
        return [_printable(one) for one in values]
    return shown(values) if isinstance(values, str) else values


def to_plain(task: TaskResults, folder: Path) -> dict[str, Any]:
    """Return what `comparison.json` in `folder` holds of a task: pictures are named from there."""
    rows = [replace(row, pictures=row.pictures and os.path.relpath(row.pictures, folder)) for row in task.rows]
    return to_dict(replace(task, rows=rows))


def _from_format_2(values: Any) -> Any:
    """Return a task of a report of before, which had one algorithm or several joined, and the settings of the first alone."""
    if not isinstance(values, dict) or not isinstance(values.get("settings"), dict) or not isinstance(values.get("rows"), list):
        return values
    settings, pixels = dict(values["settings"]), values.get("pixels_algorithm", {})
    named = next((row["algorithm"] for row in values["rows"] if isinstance(row, dict) and row.get("algorithm")), None)
    algorithms = {named: {**settings.pop("algorithm"), "pixels": pixels}} if named and "algorithm" in settings else {}
    return {**{key: value for key, value in values.items() if key != "pixels_algorithm"}, "settings": settings, "algorithms": algorithms}


def _resolved(task: TaskResults, folder: Path) -> TaskResults:
    return replace(task, rows=[replace(row, pictures=row.pictures and str(folder / row.pictures)) for row in task.rows])
