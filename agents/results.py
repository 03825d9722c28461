"""What a comparison's runs came to, as plain data: read from its folder, written to `comparison.json`, joined with others.

A `TaskResults` is one environment with its settings; rows of several comparisons on the same task can stand in one.
"""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.comparison import Comparison, Row
from agents.config import plain
from agents.encoder_facts import EncoderFacts, SpeedCache, encoder_facts
from agents.episode_pictures import FILM, STRIP
from foundation.errors import UserError
from foundation.presets import build, to_dict

FORMAT = 2
REPORT_FILE = "comparison.json"
ORDER = ("encoder", "control", "player")
"""How the rows of a report stand under one another."""

# Scores that a task's own description calls success, for tasks without a scripted player
_DOCUMENTED_TARGETS = {"Treechop": (64.0, "64 logs, where MineRL ends the episode"), "Navigate": (100.0, "the reward of the goal")}
_SAME_TASK = ("environment", "evaluation", "steps")


@dataclass(frozen=True)
class Point:
    """A point of a learning curve: the mean return of the evaluation episodes after `step` agent steps."""

    step: int
    score: float


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
    pictures: str | None = None
    """Folder with the strip and the film of the first seed's first evaluation episode."""

    @property
    def scores(self) -> list[float]:
        return [run.score for run in self.runs]


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
    """The environment's."""
    settings: dict[str, Any]
    pixels_algorithm: dict[str, Any]
    commands: list[str]
    versions: dict[str, str]
    rows: list[RowResults]
    source: str
    """Name of the comparison's folder."""

    @property
    def steps(self) -> int:
        return int(self.settings["steps"])

    @property
    def frame_skip(self) -> int:
        return int(self.settings["environment"]["frame_skip"])

    @property
    def evaluation(self) -> dict[str, Any]:
        return self.settings["evaluation"]

    @property
    def seeds(self) -> int:
        """Seeds asked for."""
        return int(self.settings["seeds"])

    @property
    def unit(self) -> str:
        return "logs" if "Treechop" in self.name else ""

    @property
    def target(self) -> Target | None:
        """The random policy's and the scripted player's scores, or a documented goal; None where neither is known."""
        played = {row.player: float(np.mean(row.scores)) for row in self.rows if row.player and row.runs}
        if "random" not in played:
            return None
        score, source = played.get("scripted"), "the scripted player's mean return"
        if score is None:
            known = [entry for part, entry in _DOCUMENTED_TARGETS.items() if part in self.name]
            score, source = known[0] if known else (None, "")
        return None if score is None or score <= played["random"] else Target(played["random"], score, source)


def collect(comparison: Comparison, command: str, versions: dict[str, str]) -> TaskResults:
    """Read the results of every row from its runs' folders, and measure encoders that were not measured yet."""
    speeds = SpeedCache(comparison.config.run / "encoders" / "speed.json")
    rows = [_row(comparison, row, speeds) for row in comparison.rows]
    config = comparison.config
    settings, source = plain(config), config.run.resolve().name
    return TaskResults(config.environment.name, settings, plain(comparison.pixels), [command], versions, rows, source)


def read_results(folder: str | Path) -> list[TaskResults]:
    """Read the `comparison.json` of a comparison's folder, or of a joined report's.

    Raises `UserError` for a folder without one, and for one that is damaged or of another version.
    """
    path = Path(folder) / REPORT_FILE
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the folder of a finished comparison") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); run its comparison's command again, which repeats no finished run") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise UserError(
            f"{path}: has format {found}, this version reads {FORMAT}; run its comparison's command again, which repeats no finished run"
        )
    results = values.get("results")
    if not isinstance(results, list) or not results:
        raise UserError(f"{path}: holds no results; run its comparison's command again")
    return [_resolved(build(TaskResults, one, f"{path}: results"), path.parent) for one in results]


def to_plain(task: TaskResults, folder: Path) -> dict[str, Any]:
    """Return what `comparison.json` in `folder` holds of a task: pictures are named from there."""
    rows = [replace(row, pictures=row.pictures and os.path.relpath(row.pictures, folder)) for row in task.rows]
    return to_dict(replace(task, rows=rows))


def join(parts: list[TaskResults]) -> list[TaskResults]:
    """Put rows of the same task under one another; name the algorithm where rows learned by several, the folder where names clash."""
    several = len({row.algorithm for part in parts for row in part.rows if row.algorithm}) > 1
    joined: list[TaskResults] = []
    for part in parts:
        rows = [replace(row, label=f"{row.label}, {row.algorithm}") if several and row.algorithm else row for row in part.rows]
        same = next((index for index, task in enumerate(joined) if _same_task(task, part)), None)
        if same is None:
            joined.append(replace(part, rows=rows))
        else:
            joined[same] = _with_rows(joined[same], part, rows)
    return joined


def _resolved(task: TaskResults, folder: Path) -> TaskResults:
    return replace(task, rows=[replace(row, pictures=row.pictures and str(folder / row.pictures)) for row in task.rows])


def _same_task(one: TaskResults, other: TaskResults) -> bool:
    return all(one.settings[key] == other.settings[key] for key in _SAME_TASK)


def _with_rows(task: TaskResults, part: TaskResults, rows: list[RowResults]) -> TaskResults:
    taken = {row.label for row in task.rows}
    # players of one task play the same episodes in every comparison
    added = [row for row in rows if not (row.player and row.label in taken)]
    named = [replace(row, label=f"{row.label} ({part.source})") if row.label in taken else row for row in added]
    ordered = sorted([*task.rows, *_keys_of_their_own(task.rows, named, part)], key=lambda row: ORDER.index(row.kind))
    seeds = {"seeds": max(task.seeds, part.seeds)}
    return replace(task, rows=ordered, commands=[*task.commands, *part.commands], settings=task.settings | seeds)


def _keys_of_their_own(before: list[RowResults], added: list[RowResults], part: TaskResults) -> list[RowResults]:
    taken = {row.key for row in before}
    return [replace(row, key=f"{row.key}@{part.source}") if row.key in taken else row for row in added]


def _row(comparison: Comparison, row: Row, speeds: SpeedCache) -> RowResults:
    results, failures = [], []
    folders = []
    for cell in comparison.cells:
        if cell.row is row:
            result = cell.result(comparison.config.steps)
            if result is None:
                failures.append(f"{cell.key}: {cell.failure() or 'not run'}")
            else:
                results.append(result)
                folders.append(cell.folder / "pictures")
    first = results[0] if results else {}
    settings = comparison.pixels if row.control == "pixels" else comparison.config.algorithm
    return RowResults(
        row.key,
        row.label,
        row.kind,
        [_run(result) for result in results],
        failures,
        row.player,
        None if row.player else type(settings).__name__.removesuffix("Settings"),
        encoder_facts(first, settings.n_envs, speeds),
        first.get("policy_parameters"),
        next((str(folder) for folder in folders if (folder / FILM).is_file() or (folder / STRIP).is_file()), None),
    )


def _run(result: dict[str, Any]) -> Run:
    curve = [Point(point["step"], float(np.mean(point["returns"]))) for point in result.get("curve", [])]
    fields = {key: result[key] for key in ("seconds", "restarts") if key in result}
    return Run(result["seed"], result["steps"], result["final_return"], result["final_returns"], curve, **fields)
