"""The grid of a comparison: parts (a task with an algorithm), their rows, a cell for each row and seed; and where all of it lies.

RUN/grid.yaml                          the layout's version
RUN/runs/TASK/ALGORITHM/settings.yaml  what the runs below share
RUN/runs/TASK/ALGORITHM/ROW/seedN/     a run, as train_agent.py writes it
RUN/players/TASK/PLAYER/seedN/         a player that does not learn, the same for all algorithms that act in the same way
RUN/encoders/                          what is made once for all tasks: principal components, the supervised encoder, measured speeds
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from agents.learning.algorithms import build_algorithm
from agents.run.config import CONTROLS, SEEING_NO_ENCODER, AgentRun, Control, TrainingConfig, completed, plain
from agents.run.environment import resolved
from agents.run.identity import refuse_differences
from agents.run.representation import fingerprint
from agents.run.result import read_result
from comparison.config import PartConfig
from comparison.players import Player, PlayerRun
from encoders.artifact import EncoderInfo
from envs.player import has_scripted_player
from foundation.documents import read_checked, schema
from foundation.env_options import shareable
from foundation.errors import UserError, shown
from foundation.files import write_atomically
from foundation.places import AnyPlace, Place, View, Views, place_name, views_of
from foundation.presets import read_yaml
from wrappers.opening import info_of

FORMAT = 2
"""Of the layout. 1 had no grid.yaml: one task, one algorithm, runs/ROW/seedN."""
FORMAT_FILE, SETTINGS_FILE = "grid.yaml", "settings.yaml"
RUNS, PLAYERS = "runs", "players"

MADE_ONCE: tuple[Control, ...] = ("pca", "supervised")
"""Controls that see an encoder of the comparison's own, the same for every seed."""

_STEPS, _FAILURE = schema(steps=int), schema(message=str)
_FIXED = ("environment", "evaluation", "algorithm", "threads", "scale")
"""What must be the same whenever runs are added to a part; settings of a control's own once it has a run."""
_DIGITS = 8
"""Of a hash in a folder's name."""


@dataclass(frozen=True)
class Row:
    """One line of a part: agents that differ in nothing but the seed, or a player that does not learn."""

    key: str
    """Its folder's name; an encoder's holds the hash of its weights, so that a retrained one is another row."""
    label: str
    kind: Literal["encoder", "control", "player"]
    encoder: Place | None = None
    control: Control | None = None
    player: Player | None = None


@dataclass(frozen=True)
class Cell:
    """One row with one seed: the run that fills it."""

    key: str
    """Its folder, from the comparison's."""
    row: Row
    seed: int
    run: AgentRun | PlayerRun

    @property
    def folder(self) -> Path:
        return self.run.run

    def result(self) -> dict[str, Any] | None:
        """Return what the run came to, or None while it is not finished."""
        result = read_result(self.folder)
        return None if result is None or result["steps"] < self.run.steps else result

    def steps_done(self) -> int:
        """Return the agent steps that need not be done again: all of a finished run, else those of its checkpoint."""
        if self.result() is not None:
            return self.run.steps
        try:
            return max(0, min(read_checked(_STEPS, self.folder / "agent.json")["steps"], self.run.steps))
        except UserError:
            return 0

    def failure(self) -> str | None:
        """Return why the last attempt failed."""
        path = self.folder / "failed.json"
        return shown(read_checked(_FAILURE, path, "delete it")["message"]) if path.is_file() else None

    def remember_failure(self, message: str, details: str) -> None:
        """Leave the reason in the run's folder."""
        write_atomically(self.folder / "failed.json", json.dumps({"message": message, "details": details}, indent=2) + "\n")

    def forget_failure(self) -> None:
        """Remove what an earlier attempt left."""
        (self.folder / "failed.json").unlink(missing_ok=True)


class Part:
    """One task with one algorithm: its rows, and a cell for every row and seed."""

    def __init__(self, asked: PartConfig) -> None:
        self.task, self.agent = asked.task, asked.agent
        self.asked, self.config = asked, asked.shared
        self.environment = resolved(self.config.environment)
        self.folder = self.config.run / RUNS / self.task / self.agent
        self.learners = learner_rows(self.config.encoders, self.config.controls)
        self.players = self._player_rows()
        seeds = range(self.config.first_seed, self.config.first_seed + self.config.seeds)
        self.cells = [self._cell(row, seed) for row in self.rows for seed in seeds]

    @property
    def name(self) -> str:
        return f"{self.task} with {self.agent}"

    @property
    def rows(self) -> list[Row]:
        return [*self.learners, *self.players]

    def made_folder(self, control: Control) -> Path:
        """Where what a control of `MADE_ONCE` sees is kept: the same for every seed, algorithm, task and scale."""
        first = self.config.encoders[0]
        return self.config.run / "encoders" / f"{_key(View(Path(control), self.mirrored_reading))}-{fingerprint(first)[:_DIGITS]}"

    @property
    def mirrored_reading(self) -> str | None:
        """The reading of the first encoder that was said with it, which controls mirror; None: its own."""
        return views_of(self.config.encoders[0])[0].latents

    def cells_of(self, row: Row) -> list[Cell]:
        """Return the row's cells, by seed."""
        return [cell for cell in self.cells if cell.row is row]

    def missing(self) -> list[Cell]:
        """Return the agents that are not trained yet."""
        return [cell for cell in self.cells if isinstance(cell.run, AgentRun) and cell.result() is None]

    def settings(self) -> dict[str, Any]:
        """Return what all runs of the part share."""
        values = {**plain(self.config), "environment": shareable(plain(self.environment))}
        own = {"pixels": self.asked.pixels, **self.asked.learning}
        return {key: values[key] for key in (*_FIXED, "steps")} | {f"{control}_algorithm": plain(one) for control, one in own.items()}

    def refuse_other_settings(self) -> None:
        """Raise `UserError` where the folder holds runs with other settings; rows, seeds and more steps may be added.

        Settings of a control's own are compared where it has a run: until then they may change.
        """
        path = self.folder / SETTINGS_FILE
        if not self._begun("*") or not path.is_file():
            return
        before, now = _completed(path), self.settings()
        steps = before["steps"]
        own = {key: key.removesuffix("_algorithm") for key in now if key.endswith("_algorithm")}
        idle = {key for key, control in own.items() if not self._begun(control if control in SEEING_NO_ENCODER else f"{control}[-_]*")}
        # a folder of before knows of fewer rows with settings of their own
        held = [key for key in now if key in before and key not in {"steps", *idle}]
        refuse_differences({key: before[key] for key in held}, {key: now[key] for key in held}, self.folder)
        if steps > self.config.steps:
            raise UserError(f"{self.folder}: its runs have {steps} steps, but you asked for {self.config.steps}; choose another --run")

    def _begun(self, rows: str) -> bool:
        return any(any(self.folder.glob(f"{rows}/seed*/{name}")) for name in ("result.json", "resume.pt"))

    def remember_settings(self) -> None:
        """Write the settings beside the runs, in place of those of a command that came to none."""
        write_atomically(self.folder / SETTINGS_FILE, yaml.safe_dump(self.settings(), sort_keys=False))

    def _player_rows(self) -> list[Row]:
        environment = plain(self.environment) | {"options": self.config.evaluated.options}
        suffix = _hash({"environment": _as_played(environment), "episodes": self.config.evaluation.final_episodes})
        rows = [Row(f"random-{suffix}", "random policy", "player", player="random")]
        if has_scripted_player(self.environment.name):
            rows.append(Row(f"scripted-{suffix}", "scripted player", "player", player="scripted"))
        return rows

    def _cell(self, row: Row, seed: int) -> Cell:
        root = self.config.run / PLAYERS / self.task if row.player else self.folder
        folder = root / row.key / f"seed{seed}"
        run = self._player_run(row.player, seed, folder) if row.player else self._agent_run(row, seed, folder)
        return Cell(str(folder.relative_to(self.config.run)), row, seed, run)

    def _player_run(self, player: Player, seed: int, folder: Path) -> PlayerRun:
        return PlayerRun(player, self.config.evaluated, self.config.evaluation.final_episodes, seed, folder, self.config.remote)

    def _agent_run(self, row: Row, seed: int, folder: Path) -> AgentRun:
        shared = {name: getattr(self.config, name) for name in TrainingConfig.__dataclass_fields__}
        shared["algorithm"] = self.asked.algorithm_of(row.control)
        if row.control in MADE_ONCE:
            # then an encoder like any other
            seen = View(self.made_folder(row.control), scale=views_of(self.config.encoders[0])[0].scale)
            return AgentRun(run=folder, encoder=Views((seen,)) if seen.scale else seen.place, seed=seed, **shared)
        return AgentRun(run=folder, encoder=row.encoder, control=row.control, seed=seed, **shared)


def learner_rows(encoders: Sequence[AnyPlace], controls: Sequence[Control]) -> list[Row]:
    """Return the rows that learn: encoders, then controls. Raises `UserError` for an encoder that is damaged or named twice."""
    infos = [info_of(place) for place in encoders]
    rows = []
    for place, info, label in zip(encoders, infos, encoder_labels(encoders, infos), strict=True):
        rows.append(Row(f"{_key(place_name(place))}-{_digits(info)}", label, "encoder", place))
    for control in dict.fromkeys(controls):
        if control in SEEING_NO_ENCODER:
            rows.append(Row(control, control, "control", control=control))
            continue
        view = _alone(encoders[0], control)
        key = f"{_key(replace(view, place=Path(control)))}-{infos[0].weights_sha256[:_DIGITS]}"
        rows.append(Row(key, control, "control", encoders[0], control))
    keys = [row.key for row in rows]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UserError(f"the same encoder is named twice: {', '.join(twice)}")
    return rows


def encoder_labels(places: Sequence[AnyPlace], infos: Sequence[EncoderInfo]) -> list[str]:
    """Return each encoder's name and what was said with it, such as its scale.

    Its folder's or the service's name follows, and then the hash of its weights, where that leaves two alike.
    """
    names = [_name(place, info) for place, info in zip(places, infos, strict=True)]
    for more in ([place_name(place) for place in places], [_digits(info) for info in infos]):
        taken = [*names, *CONTROLS]
        names = [f"{name} ({what})" if taken.count(name) > 1 else name for name, what in zip(names, more, strict=True)]
    return [shown(name) for name in names]


def _name(place: AnyPlace, info: EncoderInfo) -> str:
    said = [" ".join(filter(None, (view.latents, view.scale))) for view in views_of(place)]
    names = info.name.split("+") if len(said) > 1 else [info.name]
    return " + ".join(f"{name}, {more}" if more else name for name, more in zip(names, said, strict=False))


def _digits(info: EncoderInfo) -> str:
    """Return the first digits of an encoder's hash, of each of several."""
    return "-".join(digest[:_DIGITS] for digest in info.weights_sha256.split("+"))


def _key(what: object) -> str:
    """Return what a folder's name holds of a row's: plain letters, and what was said of a reading and a scale."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(what))


def _alone(encoder: AnyPlace, control: Control) -> View:
    """Return the encoder that a control mirrors, as it is seen; raise `UserError` for several."""
    first, *others = views_of(encoder)
    if others:
        raise UserError(f"control '{control}' mirrors the first encoder, and {encoder} is several side by side: name one alone first")
    return first


def refuse_other_layout(folder: Path) -> None:
    """Raise `UserError` where the folder holds a comparison of another version, or something that is none."""
    path = folder / FORMAT_FILE
    if path.is_file():
        found = read_yaml(path).get("format")
        if found != FORMAT:
            raise UserError(f"{path}: has format {found}, this version of the program resumes {FORMAT}; choose another --run")
    elif found_here := [name for name in ("config.yaml", RUNS, "comparison.json") if (folder / name).exists()]:
        raise UserError(
            f"{folder}: holds {found_here[0]}, but no {FORMAT_FILE}: a comparison of an earlier version, or something else; choose another "
            "--run (its report.html stays as it is, and compare_encoders.py join reads its comparison.json)"
        )


def remember_layout(folder: Path) -> None:
    """Write the layout's version."""
    write_atomically(folder / FORMAT_FILE, yaml.safe_dump({"format": FORMAT}))


def not_asked(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Name the runs in a comparison's folder that are none of `cells`: a line a row, with its seeds."""
    asked = {cell.key for cell in cells}
    found: dict[str, list[int]] = {}
    for pattern in (f"{RUNS}/*/*/*/seed*", f"{PLAYERS}/*/*/seed*"):
        for place in folder.glob(pattern):
            number = place.name.removeprefix("seed")
            if number.isdecimal() and str(place.relative_to(folder)) not in asked:
                found.setdefault(str(place.parent.relative_to(folder)), []).append(int(number))
    return [f"{row} ({_seeds(seeds)})" for row, seeds in sorted(found.items())]


def _seeds(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, sorted(seeds)))}"


def _completed(path: Path) -> dict[str, Any]:
    values = {"scale": None, **read_yaml(path)}
    missing = [key for key in (*_FIXED, "steps") if key not in values]
    if missing:
        raise UserError(f"{path}: damaged, it has no '{missing[0]}'; choose another --run")
    own = {key: plain(build_algorithm(one)) for key, one in values.items() if key.endswith("_algorithm")}
    return {**completed(values), **own}


def _as_played(environment: dict[str, Any]) -> dict[str, Any]:
    """Leave out where and how a game runs, and a limit that is not set: what is played stays the same."""
    # players see no latents, so none of before, and do not learn
    left_out = {"history", "reward_scale"} if environment["episode_steps"] is not None else {"history", "reward_scale", "episode_steps"}
    environment = {key: value for key, value in environment.items() if key not in left_out}
    return {**shareable(environment), "action_store": None}


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_DIGITS]
