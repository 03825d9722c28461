"""A search's folder: settings, trials as they were drawn, and what each came to. The folder is the only truth."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from agents.run.config import AgentRun, plain
from agents.run.representation import fingerprint
from agents.run.result import read_result
from foundation.documents import checked, parse, read, schema
from foundation.env_options import RUNNING_OPTIONS, shareable
from foundation.errors import UserError
from foundation.files import exclusive_lock, write_atomically
from foundation.folders import SEARCH, refuse_links, refuse_others
from foundation.outside import read_regular
from foundation.places import AnyPlace
from foundation.presets import build, read_yaml, to_dict
from foundation.shared_folder import absolute
from search.config import FIRST_SEED, SearchConfig
from search.settings import TrialSettings, agent_run, known_names, settled, trial_settings
from search.space import Space, read_space
from search.trials import Reached, TrialPlan, encoder_plan

if TYPE_CHECKING:
    from frames import FrameStore

_DRAWN = schema(values=dict[str, Any])

Ended = Literal["finished", "stopped early", "failed"]

_MAY_DIFFER = ("run", "trials", "workers", "device", "policy_device", "checkpoint_every", "checkpoint_minutes", "remote", "ray", "store")
_NOT_PATHS = ("encoder", "space", "encoder_preset")
"""What they hold is compared, not where it lies."""
_HOW_GAMES_RUN = {"environment.options", *(f"environment.options.{name}" for name in RUNNING_OPTIONS)}
_OF_OTHERS = ("grid.yaml", "comparison.json", "agent.json", "result.json", "resume.pt")
"""What a folder of a comparison, a joined report, or an agent's run holds, and one of a search does not."""


@dataclass(frozen=True)
class Record:
    """What a trial came to: its score at each rung, and how it ended (None: it has not)."""

    scores: list[Reached] = field(default_factory=list)
    ended: Ended | None = None
    message: str = ""
    """Why it failed."""
    restarts: int = 0
    """Times that it was started again after its worker died."""


@dataclass(frozen=True)
class Trial:
    """A point of the space, and the folder with its agents' runs."""

    number: int
    values: dict[str, Any]
    settings: TrialSettings
    folder: Path
    steps: int
    """Of each of its agents."""

    @property
    def key(self) -> str:
        return self.folder.name

    def record(self) -> Record:
        """Return what the trial came to so far."""
        path = self.folder / "trial.json"
        record = build(Record, read(path, "delete it and run the command again"), str(path)) if path.is_file() else Record()
        # as searches of before recorded one whose last evaluation was that of a rung
        ran_out = record.ended == "stopped early" and record.scores and record.scores[-1].step >= self.steps
        return dataclasses.replace(record, ended="finished") if ran_out else record

    def write(self, record: Record) -> None:
        """Replace the trial's record."""
        write_atomically(self.folder / "trial.json", json.dumps(to_dict(record), indent=2) + "\n")

    def add_score(self, step: int, score: float) -> None:
        """Record the score at a rung; the score at a rung that was recorded before stays."""
        record = self.record()
        if not record.scores or step > record.scores[-1].step:
            self.write(dataclasses.replace(record, scores=[*record.scores, Reached(step, score)]))

    def add_restart(self) -> None:
        """Count that the trial was started again."""
        record = self.record()
        self.write(dataclasses.replace(record, restarts=record.restarts + 1))

    def end(self, ended: Ended, message: str = "") -> None:
        """Record how the trial ended."""
        self.write(dataclasses.replace(self.record(), ended=ended, message=message))


class Search:
    """The trials of `config`: those of its folder, and as many new ones as it asks for."""

    def __init__(self, config: SearchConfig) -> None:
        _refuse_folder_of_others(config.run)
        self.config = config
        self.space: Space = read_space(config.space, lambda wanted: known_names(config, wanted))
        # a folder of another search is told before a space that has too few points
        self._refuse_other_search()
        self.trials = [self._trial(number, values) for number, values in enumerate(self._values())]

    @property
    def steps(self) -> int:
        """Steps of all trials, were none stopped early."""
        return self.config.steps * self.config.seeds * len(self.trials)

    def open_trials(self) -> list[Trial]:
        """Return the trials that are to be run: not ended, or failed the last time."""
        return [trial for trial in self.trials if trial.record().ended in (None, "failed")]

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Hold the folder, and write down settings and trials, for the time of the block; a second process is refused."""
        with exclusive_lock(self.config.run, "searching hyperparameters"):
            self._refuse_other_search()
            self._refuse_links()
            lines = [json.dumps({"trial": trial.number, "values": trial.values}) + "\n" for trial in self.trials]
            write_atomically(self.config.run / "trials.jsonl", "".join(lines))
            write_atomically(self.config.run / "config.yaml", yaml.safe_dump(self._identity(), sort_keys=False))
            yield

    def plan(self, trial: Trial) -> TrialPlan:
        """Return what a worker does for a trial; all paths are absolute."""
        config, encoder = self.config, None
        if trial.settings.encoder is not None:
            assert config.store is not None
            folder = (config.run / "encoders").absolute()
            store = config.store.absolute()
            encoder = encoder_plan(folder, trial.settings.encoder, store, self._store.fingerprint, config.device, config.threads)
        return TrialPlan(trial.number, tuple(self._runs(trial, encoder.encoder if encoder else config.encoder)), encoder)

    def results(self, trial: Trial) -> list[dict[str, Any]]:
        """Return what the trial's finished agents came to."""
        found = [read_result(run.run) for run in self._runs(trial, None)]
        return [result for result in found if result is not None]

    def _runs(self, trial: Trial, encoder: AnyPlace | None) -> list[AgentRun]:
        config, place = self.config, absolute(encoder)
        seeds = range(config.first_seed, config.first_seed + config.seeds)
        return [agent_run(config, trial.settings, (trial.folder / f"seed{seed}").absolute(), place, seed) for seed in seeds]

    def _trial(self, number: int, values: dict[str, Any]) -> Trial:
        try:
            settings = trial_settings(self.config, values)
        except UserError as error:
            shown = ", ".join(f"{name} {value}" for name, value in values.items())
            raise UserError(f"{self.config.space}: trial {number} ({shown}) is not possible: {error}; change the space") from error
        return Trial(number, settled(settings, self.space.names), settings, self.config.run / "trials" / f"{number:03d}", self.config.steps)

    def _values(self) -> list[dict[str, Any]]:
        path = self.config.run / "trials.jsonl"
        drawn = self.space.draw(self.config.trials, self.config.seed)
        if not path.is_file():
            return drawn
        remedy = "delete it and run the command again, which draws the same trials"
        lines = read_regular(path).splitlines()
        before = [checked(_DRAWN, parse(line, path, remedy), path, remedy)["values"] for line in lines]
        if len(before) > len(drawn):
            raise UserError(
                f"{self.config.run}: holds {len(before)} trials, but you asked for {len(drawn)}; give --trials {len(before)} or more"
            )
        # the file may be somebody else's: nothing but what the space varies comes from it
        if any(not isinstance(values, dict) or values.keys() != set(self.space.names) for values in before):
            raise UserError(f"{path}: damaged, its trials have other values than the space; delete it and run the command again")
        return [*before, *drawn[len(before) :]]

    def _refuse_other_search(self) -> None:
        path = self.config.run / "config.yaml"
        if not path.is_file():
            return
        now = dict(_flat(self._identity()))
        # what a search of before could not choose, and what its store held beside frames, which it did not write down
        later = {"first_seed": FIRST_SEED, "environment.history": 1, "environment.reward_scale": 1.0}
        settled = {**later, "store_identity": now["store_identity"]}
        before = {**settled, **dict(_flat(read_yaml(path)))}
        for key in sorted({*before, *now} - _HOW_GAMES_RUN):
            if before.get(key) != now.get(key):
                raise UserError(
                    f"{self.config.run}: holds a search with {key} = {before.get(key)}, but {now.get(key)} was asked for; "
                    "only more trials may be added: choose another --run"
                )

    def _refuse_links(self) -> None:
        """Raise `UserError` for a link on the way to what open trials write: the folder may be somebody else's."""
        for trial in self.open_trials():
            plan = self.plan(trial)
            refuse_links([self.config.run / "trials", trial.folder, *(run.run for run in plan.runs)])
            if plan.encoder is not None:
                refuse_links([self.config.run / "encoders", plan.encoder.folder, plan.encoder.encoder])

    def _identity(self) -> dict[str, Any]:
        """Return what makes a search this search."""
        config = self.config
        settings = {key: value for key, value in plain(config).items() if key not in (*_MAY_DIFFER, *_NOT_PATHS)}
        encoders = trial_settings(config, {}).encoder
        return {
            **settings,
            "environment": shareable(settings["environment"]),
            "space": self.space.plain(),
            "encoder_sha256": None if config.encoder is None else fingerprint(config.encoder),
            "encoder_preset": encoders,
            "store_fingerprint": self._store.fingerprint if encoders else None,
            "store_identity": self._store.identity if encoders else None,
        }

    @cached_property
    def _store(self) -> "FrameStore":
        from frames import FrameStore

        assert self.config.store is not None
        return FrameStore(self.config.store)


def _refuse_folder_of_others(folder: Path) -> None:
    if found := next((name for name in _OF_OTHERS if (folder / name).exists()), None):
        raise UserError(f"{folder}: holds {found}: a comparison or an agent, not a search; choose another --run")
    refuse_others(folder, SEARCH)


def _flat(settings: Any, where: str = "") -> list[tuple[str, Any]]:
    if not isinstance(settings, dict) or not settings:
        return [(where, settings)]
    return [pair for key, value in settings.items() for pair in _flat(value, f"{where}.{key}" if where else str(key))]
