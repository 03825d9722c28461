"""A comparison: tasks x algorithms x (encoders and controls) x seeds. Its folder is the only truth; what is missing is run."""

from collections.abc import Callable, Sequence

from agents.cluster.board import Progress
from agents.cluster.resources import cores, ray_cluster
from agents.cluster.worker import Job, Outcome
from agents.cluster.workers import run_jobs
from agents.run.needs import local_cpus, run_needs
from agents.run.training import train_agent
from comparison.checks import refuse_misfits
from comparison.config import PartConfig
from comparison.grid import MADE_ONCE, Cell, Part, not_asked, refuse_other_layout, remember_layout
from comparison.players import PlayerRun, play_player
from encoders.artifact import INFO_FILE
from encoders.training.devices import choose_device
from foundation.files import exclusive_lock
from foundation.folders import AGENT, COMPARISON, PLAYER, refuse_links, refuse_others
from pretraining.controls import control_artifact
from pretraining.supervised import supervised_artifact, supervised_options
from wrappers.opening import original

_PLURALS = {"row that learns": "rows that learn"}


class Comparison:
    """The grid that a command asks for, as a list of parts: a part is one task with one algorithm."""

    def __init__(self, asked: Sequence[PartConfig]) -> None:
        self.config = asked[0].shared
        """Of the first part; used for what is the same in all: folder, encoders, workers, Ray."""
        self.parts = [Part(one) for one in asked]
        # players that do not learn are the same for every algorithm that acts in the same way
        self.cells = list({cell.key: cell for part in self.parts for cell in part.cells}.values())

    @property
    def steps(self) -> int:
        """Training steps of the whole grid."""
        return sum(cell.run.steps for cell in self.cells)

    def missing(self) -> list[Cell]:
        """Return the cells without a result, all rows' first seeds first: what cannot work shows early, and all rows grow alike."""
        return sorted((cell for cell in self.cells if cell.result() is None), key=lambda cell: cell.seed)

    def extent(self) -> str:
        """Say in one line what is compared, and how much of it is there."""
        tasks, algorithms = ({getattr(part, name) for part in self.parts} for name in ("task", "agent"))
        rows, seeds = sum(len(part.learners) for part in self.parts), self.config.seeds
        sizes = [(len(tasks), "task"), (len(algorithms), "algorithm"), (rows, "row that learns"), (seeds, "seed")]
        size = ", ".join(f"{count} {name if count == 1 else _PLURALS.get(name, f'{name}s')}" for count, name in sizes)
        return f"{size}: {len(self.cells)} runs, {len(self.cells) - len(self.missing())} finished before"

    def not_asked(self) -> list[str]:
        """Name what else lies in the folder, and is not part of the report."""
        return not_asked(self.config.run, self.cells)

    def check(self) -> None:
        """Raise `UserError` for what cannot work, before anything runs and before the folder remembers it."""
        self._refuse_folder()
        if self.config.ray.address is None:
            choose_device(self.config.device)
        refuse_misfits([part for part in self.parts if part.missing()])

    def run(self, ended: Callable[[Outcome], None], watch: Callable[[Progress], None]) -> int | None:
        """Run the cells that are missing, after `check`; return None, or the signal that stopped them.

        Raises `UserError` where the folder holds something else by now. A failing cell leaves `failed.json` and keeps no other from
        running.
        """
        with exclusive_lock(self.config.run, "comparing encoders"):
            self._refuse_folder()
            remember_layout(self.config.run)
            for part in self.parts:
                part.remember_settings()
            missing = self.missing()
            if not missing:
                return None
            self._make_controls()
            return self._run_cells(missing, ended, watch)

    def _refuse_folder(self) -> None:
        refuse_other_layout(self.config.run)
        refuse_others(self.config.run, COMPARISON)
        for part in self.parts:
            part.refuse_other_settings()
        for cell in self.missing():
            above = [folder for folder in cell.folder.parents if folder.is_relative_to(self.config.run)]
            refuse_links([*above[:-1], cell.folder])
            refuse_others(cell.folder, PLAYER if isinstance(cell.run, PlayerRun) else AGENT)

    def _run_cells(self, missing: list[Cell], ended: Callable[[Outcome], None], watch: Callable[[Progress], None]) -> int | None:
        by_key = {cell.key: cell for cell in missing}

        def record(outcome: Outcome) -> None:
            cell = by_key[outcome.key]
            if outcome.status == "failed":
                cell.remember_failure(outcome.message, outcome.details)
            else:
                cell.forget_failure()
            ended(outcome)

        config = self.config
        workers = min(config.workers or cores(), len(missing))
        with ray_cluster(config.ray, local_cpus(config, workers)):
            jobs, needs = [_job(cell) for cell in missing], run_needs(config)
            return run_jobs(jobs, config.workers, record, watch, needs, config.ray.retries, shared=config.run)

    def _make_controls(self) -> None:
        """Make what the rows `pca` and `supervised` see, once for all tasks."""
        for control in MADE_ONCE:
            part = next((part for part in self.parts if control in part.config.controls), None)
            if part is None or (part.made_folder(control) / INFO_FILE).is_file():
                continue
            config, folder = part.config, part.made_folder(control)
            mirrored = original(config.encoders[0])
            if control == "supervised":
                options = supervised_options(mirrored, folder, 0, config.store, part.mirrored_reading, config.device, config.threads)
                supervised_artifact(options)
            else:
                control_artifact(control, mirrored, folder, 0, config.store, part.mirrored_reading)


def _job(cell: Cell) -> Job:
    return Job(cell.key, play_player if isinstance(cell.run, PlayerRun) else train_agent, cell.run)
