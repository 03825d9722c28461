"""What a comparison's runs came to, as plain data: read from its folder, written to `comparison.json`, joined with others.

A `TaskResults` is one environment with its settings; rows of several comparisons on the same task can stand in one.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.run.config import CONTROLS, LEARNING, PIXEL_ROWS, Control, EvaluationConfig, plain
from agents.run.environment_config import EnvironmentConfig
from agents.run.pictures import FILM, STRIP
from comparison.comparison import Comparison
from comparison.encoder_facts import EncoderFacts, SpeedCache, encoder_facts, read_probes
from comparison.grid import Part, Row
from foundation.documents import read
from foundation.env_options import shareable
from foundation.errors import UserError, shown
from foundation.presets import build, to_dict
from wrappers.opening import info_of

FORMAT = 3
"""Of comparison.json. 2 had one algorithm a task, whose settings stood among the task's."""
REPORT_FILE = "comparison.json"
ORDER = ("encoder", "control", "player")
"""How the rows of a report stand under one another."""

# Scores that a task's own description calls success, for tasks without a scripted player
_DOCUMENTED_TARGETS = {"Treechop": (64.0, "64 logs, where MineRL ends the episode"), "Navigate": (100.0, "the reward of the goal")}
_TOLD = {"oracle": "told the answers", "supervised": "trained on the answers"}
_LATER = {"environment": plain(EnvironmentConfig(name="")), "evaluation": plain(EvaluationConfig())}
"""What holds of a task where its report was made before one could say it."""

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
        """How a row that is a ceiling, and no rival, came to know the answers; None for others."""
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


def collect(comparison: Comparison, command: str, versions: dict[str, str]) -> list[TaskResults]:
    """Read the results of every row from its runs' folders, and measure encoders that were not measured yet."""
    speeds = SpeedCache(comparison.config.run / "encoders" / "speed.json")
    names = _algorithm_names(comparison.parts)
    return join([_collect_part(part, names[part.agent], command, versions, speeds) for part in comparison.parts])


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


def join(parts: list[TaskResults]) -> list[TaskResults]:
    """Put rows of the same task under one another; name the algorithm where rows learned by several, the folder where names clash.

    Tasks in the same environment are named apart by their variants, or numbered.
    """
    several = len({row.algorithm for part in parts for row in part.rows if row.algorithm}) > 1
    joined: list[TaskResults] = []
    for part in parts:
        rows = [replace(row, label=_with_algorithm(row)) if several else row for row in part.rows]
        same = next((index for index, task in enumerate(joined) if _same_task(task, part)), None)
        if same is None:
            joined.append(replace(part, rows=rows))
        else:
            joined[same] = _with_rows(joined[same], part, rows)
    return [replace(task, name=_name_apart(task, joined)) for task in joined]


def _with_algorithm(row: RowResults) -> str:
    """Return the row's label with its algorithm; one from a report of several has it already, with a comma in those of before."""
    named = row.algorithm is None or row.label.endswith((f" with {row.algorithm}", f", {row.algorithm}"))
    return row.label if named else f"{row.label} with {row.algorithm}"


def _name_apart(task: TaskResults, tasks: list[TaskResults]) -> str:
    alike = [other for other in tasks if other.name == task.name]
    if len(alike) == 1:
        return task.name
    variants = [other.variant for other in alike]
    apart = task.variant and variants.count(task.variant) == 1
    number = next(index for index, other in enumerate(alike) if other is task) + 1
    return f"{task.name} ({task.variant if apart else number})"


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


def _same_task(one: TaskResults, other: TaskResults) -> bool:
    return one.steps == other.steps and _where(one) == _where(other)


def _where(task: TaskResults) -> list[dict[str, Any]]:
    """Return in which worlds agents act and are judged: not how a game runs, nor where the recorded actions lie, whose hash is there."""
    environment, evaluation = ({**later, **task.settings[key]} for key, later in _LATER.items())
    return [shareable({**environment, "action_store": None}), evaluation]


def _with_rows(task: TaskResults, part: TaskResults, rows: list[RowResults]) -> TaskResults:
    # players of one task play the same episodes in every comparison: one that has played stands for all
    playing = {row.label for row in rows if row.player and row.runs}
    kept = [row for row in task.rows if not row.player or row.runs or row.label not in playing]
    taken = {row.label for row in kept}
    added = [row for row in rows if not (row.player and row.label in taken)]
    named = [replace(row, label=_free(row.label, f" ({part.source})", taken)) for row in added]
    ordered = sorted([*kept, *_keys_of_their_own(kept, named, part)], key=lambda row: ORDER.index(row.kind))
    seeds = {"seeds": max(task.seeds, part.seeds)}
    commands = list(dict.fromkeys([*task.commands, *part.commands]))
    algorithms = {**task.algorithms, **part.algorithms}
    return replace(task, rows=ordered, commands=commands, settings=task.settings | seeds, algorithms=algorithms)


def _keys_of_their_own(before: list[RowResults], added: list[RowResults], part: TaskResults) -> list[RowResults]:
    taken = {row.key for row in before}
    return [replace(row, key=_free(row.key, f"@{part.source}", taken)) for row in added]


def _free(name: str, more: str, taken: set[str]) -> str:
    """Return the name with as much more behind it as it takes to be a new one."""
    while name in taken:
        name += more
    return name


def _collect_part(part: Part, algorithm: str, command: str, versions: dict[str, str], speeds: SpeedCache) -> TaskResults:
    settings = plain(part.config) | {"environment": shareable(plain(part.environment))}
    learning = {name: plain(own) for name, own in part.asked.learning.items() if name in part.config.controls}
    algorithms = {algorithm: {**settings.pop("algorithm"), "pixels": plain(part.asked.pixels), **learning}}
    rows = [_row(part, row, algorithm, speeds) for row in part.rows]
    variant = part.task + (", continuous actions" if part.environment.continuous else "")
    return TaskResults(part.environment.name, settings, algorithms, [command], versions, rows, part.config.run.resolve().name, variant)


def _algorithm_names(parts: Sequence[Part]) -> dict[str, str]:
    """Return each agent preset's algorithm, with the preset's name where several are of one algorithm."""
    kinds = {part.agent: type(part.config.algorithm).__name__.removesuffix("Settings") for part in parts}
    return {agent: f"{kind} ({agent})" if list(kinds.values()).count(kind) > 1 else kind for agent, kind in kinds.items()}


def _row(part: Part, row: Row, algorithm: str, speeds: SpeedCache) -> RowResults:
    cells = part.cells_of(row)
    results = {cell.key: result for cell in cells if (result := cell.result()) is not None}
    first = next(iter(results.values()), {})
    settings, shared = part.asked.algorithm_of(row.control), plain(part.config.algorithm)
    origin = part.asked.origins.get((row.control or "") if row.control in PIXEL_ROWS else "")
    filmed = (cell.folder / "pictures" for cell in cells if cell.key in results)
    return RowResults(
        key=cells[0].key.rpartition("/")[0],
        label=row.label,
        kind=row.kind,
        runs=[_run(result) for result in results.values()],
        failures=[f"{cell.key}: {cell.failure() or 'not run'}" for cell in cells if cell.key not in results],
        player=row.player,
        algorithm=None if row.player else algorithm,
        encoder=_facts(part, row, first, settings.n_envs, speeds),
        policy_parameters=first.get("policy_parameters"),
        learning_parameters=first.get("learning_parameters"),
        own_settings={} if row.player else {key: value for key, value in plain(settings).items() if value != shared.get(key)},
        preset=origin.preset if origin and not row.player else None,
        tuning=origin.tuning if origin and not row.player else None,
        pictures=next((str(folder) for folder in filmed if (folder / FILM).is_file() or (folder / STRIP).is_file()), None),
        control=row.control,
    )


def _facts(part: Part, row: Row, result: dict[str, Any], batch: int, speeds: SpeedCache) -> EncoderFacts | None:
    """Describe a row's encoder; what mirrors the first encoder was probed beside it, unless it was evaluated itself."""
    found = encoder_facts(result, batch, speeds, None if row.control else row.encoder)
    if found is not None and row.control in LEARNING:
        learned = " then ".join([*([found.learned_from] if found.learned_from else []), "with its agent"])
        # what was found of it before holds no more
        size = found.used_parameters or found.parameters
        return replace(found, parameters=size, validation=None, collapsed=None, probes={}, generates=False, learned_from=learned)
    if found is None or found.probes or row.control not in ("untrained", "pca"):
        return found
    mirrored = part.config.encoders[0]
    return replace(found, probes=read_probes(mirrored, info_of(mirrored), who=row.control))


def _run(result: dict[str, Any]) -> Run:
    curve = [Point(point["step"], float(np.mean(point["returns"])), point.get("seconds")) for point in result.get("curve", [])]
    known = ("seconds", "evaluation_seconds", "machine", "restarts", "attempts")
    fields = {key: result[key] for key in known if key in result}
    return Run(result["seed"], result["steps"], result["final_return"], result["final_returns"], curve, **fields)
