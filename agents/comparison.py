"""A comparison: the grid of rows x seeds, and what its results say. The folder is the only truth; what is missing is run."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from agents.algorithms import Learner
from agents.cluster import cores, local_cpus, ray_cluster, run_needs
from agents.config import CONTROLS, AgentRun, ComparisonConfig, EnvironmentConfig, TrainingConfig, plain
from agents.environment import check_environment
from agents.episode_pictures import write_episode
from agents.evaluation import has_scripted_player, play_random, play_scripted
from agents.representation import control_artifact, fingerprint
from agents.run import available_device, read_result, refuse_differences, refuse_encoders_folder, train_agent
from agents.workers import Job, Outcome, Progress, Report, run_jobs
from encoders.artifact import EncoderInfo, read_info
from foundation.errors import UserError
from foundation.files import exclusive_lock, write_atomically
from foundation.presets import read_yaml

Player = Literal["random", "scripted"]


@dataclass(frozen=True)
class Row:
    """One line of the comparison: agents that differ in nothing but the seed, or a player that does not learn."""

    key: str
    """Its folder's name; an encoder's holds the hash of its weights, so that a retrained one is another row."""
    label: str
    kind: Literal["encoder", "control", "player"]
    encoder: Path | None = None
    control: Literal["pixels", "untrained", "pca"] | None = None
    player: Player | None = None


@dataclass(frozen=True)
class PlayerRun:
    """Evaluation episodes of a player that does not learn."""

    player: Player
    environment: EnvironmentConfig
    episodes: int
    seed: int
    folder: Path


@dataclass(frozen=True)
class Cell:
    """One row with one seed: its folder, and the job that fills it."""

    row: Row
    seed: int
    folder: Path
    run: AgentRun | PlayerRun

    @property
    def key(self) -> str:
        return f"{self.row.key}/seed{self.seed}"

    def result(self, steps: int) -> dict[str, Any] | None:
        """Return what the cell came to, or None while it is not finished."""
        result = read_result(self.folder)
        return None if result is None or (self.row.player is None and result["steps"] < steps) else result

    def failure(self) -> str | None:
        """Return why the last attempt failed."""
        path = self.folder / "failed.json"
        return json.loads(path.read_text())["message"] if path.is_file() else None


class Comparison:
    """The grid of `config`; `pixels` holds the algorithm's settings on pixels."""

    def __init__(self, config: ComparisonConfig, pixels: Learner) -> None:
        self.config, self.pixels = config, pixels
        self.rows = comparison_rows(config)
        self.cells = [self._cell(row, seed) for row in self.rows for seed in range(config.seeds)]

    @property
    def steps(self) -> int:
        """Training steps of the whole grid."""
        return self.config.steps * sum(cell.row.player is None for cell in self.cells)

    def steps_done(self) -> int:
        """Training steps of the cells that are finished."""
        return self.config.steps * sum(cell.row.player is None for cell in self.cells if cell.result(self.config.steps))

    def run(self, ended: Callable[[Outcome], None], watch: Callable[[Progress], None]) -> int | None:
        """Run the cells that are missing; return None, or the signal that stopped them.

        Raises `UserError` where the folder holds a comparison with other settings, or a control cannot be made. A failing cell
        leaves `failed.json` and keeps no other from running.
        """
        config = self.config
        # before the folder remembers settings that cannot work
        refuse_encoders_folder(config.run)
        if config.ray.address is None:
            available_device(config.device)
        check_environment(config.environment, config.algorithm)
        with exclusive_lock(config.run, "comparing encoders"):
            self._remember_settings()
            missing = [cell for cell in self.cells if cell.result(config.steps) is None]
            if not missing:
                return None
            self._prepare_pca()
            by_key = {cell.key: cell for cell in missing}

            def record(outcome: Outcome) -> None:
                _record_outcome(by_key[outcome.key], outcome)
                ended(outcome)

            workers = min(config.workers or cores(), len(missing))
            with ray_cluster(config.ray, local_cpus(config, workers)):
                jobs, needs = [self._job(cell) for cell in missing], run_needs(config)
                return run_jobs(jobs, config.workers, record, watch, needs, config.ray.retries, shared=config.run)

    def _cell(self, row: Row, seed: int) -> Cell:
        folder = self.config.run / "runs" / row.key / f"seed{seed}"
        if row.player:
            evaluation = self.config.evaluation
            return Cell(row, seed, folder, PlayerRun(row.player, self.config.environment, evaluation.final_episodes, seed, folder))
        shared = {name: getattr(self.config, name) for name in TrainingConfig.__dataclass_fields__}
        if row.control == "pixels":
            shared["algorithm"] = self.pixels
        # the components are the same for every seed: made once, then an encoder like any other
        control = None if row.control == "pca" else row.control
        encoder = self._pca_folder if row.control == "pca" else row.encoder
        return Cell(row, seed, folder, AgentRun(run=folder, encoder=encoder, control=control, seed=seed, **shared))

    def _job(self, cell: Cell) -> Job:
        if isinstance(cell.run, PlayerRun):
            return Job(cell.key, play_player, cell.run)
        return Job(cell.key, train_agent, cell.run)

    @property
    def _pca_folder(self) -> Path:
        return self.config.run / "encoders" / f"pca-{fingerprint(self.config.encoders[0])[:8]}"

    def _prepare_pca(self) -> None:
        if "pca" in self.config.controls:
            control_artifact("pca", self.config.encoders[0], self._pca_folder, 0, self.config.store)

    def _remember_settings(self) -> None:
        """Refuse a folder of another comparison; rows, seeds and more steps may be added."""
        path = self.config.run / "config.yaml"
        now = plain(self.config) | {"pixels_algorithm": plain(self.pixels)}
        if path.is_file():
            before = read_yaml(path)
            fixed = ("environment", "evaluation", "algorithm", "pixels_algorithm", "threads")
            refuse_differences({key: before.get(key) for key in fixed}, {key: now[key] for key in fixed}, self.config.run)
            if before["steps"] > self.config.steps:
                raise UserError(
                    f"{self.config.run}: its runs are of {before['steps']} steps, {self.config.steps} were asked for; choose another --run"
                )
        write_atomically(path, yaml.safe_dump(now, sort_keys=False))


def comparison_rows(config: ComparisonConfig) -> list[Row]:
    """Return the rows: encoders, controls, then the players that do not learn."""
    infos = [read_info(folder) for folder in config.encoders]
    labels = _labels(config.encoders, infos)
    rows = [
        Row(
            key=f"{_slug(folder.resolve().name)}-{info.weights_sha256[:8]}",
            label=label,
            kind="encoder",
            encoder=folder,
        )
        for folder, info, label in zip(config.encoders, infos, labels, strict=True)
    ]
    for control in dict.fromkeys(config.controls):
        mirrored = None if control == "pixels" else config.encoders[0]
        suffix = "" if mirrored is None else f"-{infos[0].weights_sha256[:8]}"
        rows.append(Row(f"{control}{suffix}", control, "control", mirrored, control))
    rows.append(Row("random", "random policy", "player", player="random"))
    if has_scripted_player(config.environment.name):
        rows.append(Row("scripted", "scripted player", "player", player="scripted"))
    twice = {row.key for row in rows if [other.key for other in rows].count(row.key) > 1}
    if twice:
        raise UserError(f"the same encoder is named twice: {', '.join(sorted(twice))}")
    return rows


def play_player(run: PlayerRun, report: Report) -> dict[str, Any]:
    """Play the evaluation episodes of a player that does not learn, and write its result."""
    report(0, "")
    play = play_random if run.player == "random" else play_scripted
    played = play(run.environment, run.episodes, run.seed)
    write_episode(run.folder / "pictures", played.pictures, run.environment.frame_skip, None)
    result = {"steps": 0, "seed": run.seed, "final_return": float(np.mean(played.returns)), "final_returns": played.returns}
    write_atomically(run.folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def _labels(folders: Sequence[Path], infos: Sequence[EncoderInfo]) -> list[str]:
    """Return each encoder's name, with its folder's and then the hash of its weights where that leaves two alike."""
    names = [info.name for info in infos]
    for more in ([folder.resolve().name for folder in folders], [info.weights_sha256[:8] for info in infos]):
        taken = [*names, *CONTROLS]
        names = [f"{name} ({what})" if taken.count(name) > 1 else name for name, what in zip(names, more, strict=True)]
    return names


def _record_outcome(cell: Cell, outcome: Outcome) -> None:
    path = cell.folder / "failed.json"
    if outcome.status == "failed":
        write_atomically(path, json.dumps({"message": outcome.message, "details": outcome.details}, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
