"""What a search's trials came to, in order; its warning, and the command that runs the best one again with new seeds."""

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import csv_cell
from search.search import Record, Search, Trial

FORMAT = 1
_AGAIN_SEEDS = 5
_OWN_OPTIONS = (
    *("space", "trials", "seed", "seeds", "first-seed", "scheduler", "first-rung", "reduction", "workers", "run"),
    *("encoder", "latents", "control", "encoder-preset", "encoder-steps", "store"),
)
_ORDER = ("finished", "stopped early", "failed", None)


@dataclass(frozen=True)
class Finding:
    """A trial and what it came to."""

    trial: Trial
    record: Record
    encoder: str | None
    """The folder of the trial's own encoder, where encoders vary."""
    agents: list[float]
    """The mean return of each finished agent."""

    @property
    def score(self) -> float | None:
        """The last score: of all agents at the end, or at the rung where the trial was stopped; None for one that failed."""
        return self.record.scores[-1].score if self.record.scores and self.record.ended in ("finished", "stopped early") else None

    @property
    def steps(self) -> int | None:
        return self.record.scores[-1].step if self.record.scores else None

    @property
    def how(self) -> str:
        """How the trial ended, in words."""
        return self.record.ended or ("under way" if self.record.scores else "not run")


@dataclass(frozen=True)
class Findings:
    """All trials, best first; below those that did all steps stand those that were stopped early, failed, or were not run."""

    search: Search
    found: list[Finding]
    command: str

    @property
    def best(self) -> Finding | None:
        return self.found[0] if self.found and self.found[0].record.ended == "finished" else None

    @property
    def restarts(self) -> int:
        """Times that trials were started again after their workers died."""
        return sum(one.record.restarts for one in self.found)

    @property
    def complete(self) -> bool:
        """Whether every trial did all its steps or was stopped early."""
        return all(one.record.ended in ("finished", "stopped early") for one in self.found)

    @property
    def failures(self) -> list[str]:
        return [f"trial {one.trial.key}: {one.record.message}" for one in self.found if one.record.ended == "failed"]


def find(search: Search, argv: Sequence[str]) -> Findings:
    """Read what every trial came to from the search's folder."""
    found = []
    for trial in search.trials:
        plan, record = search.plan(trial), trial.record()
        encoder = str(plan.encoder.encoder) if plan.encoder else None
        agents = [result["final_return"] for result in search.results(trial)] if record.ended == "finished" else []
        found.append(Finding(trial, record, encoder, agents))
    return Findings(search, sorted(found, key=_rank), shlex.join(["python", "tune_agent.py", *argv]))


def warning(findings: Findings) -> str:
    """Say why the best score is too high, and what to do."""
    best, search = findings.best, findings.search
    if best is None:
        return "No trial has done all its steps: there is no best one yet."
    finished = sum(one.record.ended == "finished" for one in findings.found)
    agents = "one agent" if search.config.seeds == 1 else f"{search.config.seeds} agents"
    return (
        f"Warning: the score of the best of {finished} finished trials, each of {agents}, is biased upward: it was chosen for being the "
        f"highest, chance included. Run it again with new seeds (the search's were {search.config.first_seed} and up) before you compare "
        "or report it."
        + (" Its encoder was chosen with it, and is not trained again." if best.encoder else "")
    )


def again(findings: Findings, argv: Sequence[str]) -> str | None:
    """Return the command that runs the best trial again with seeds that the search did not use; None where there is no best one."""
    best, config = findings.best, findings.search.config
    if best is None:
        return None
    encoder = best.encoder or (str(config.encoder) if config.encoder else None)
    named = {name: value for name, value in best.trial.values.items() if not name.startswith("encoder.")}
    words = [*shared_options(argv, named), *(word for name, value in named.items() for word in _option(name, value))]
    if "--steps" not in words:
        words += ["--steps", str(config.steps)]
    store = ["--store", str(config.store)] if config.store and config.control else []
    after = config.first_seed + config.seeds
    if config.latents is not None:
        control = ["--control", config.control] if config.control else []
        words += ["--encoder", str(encoder), "--latents", config.latents, *control, *store]
        words += ["--seed", "0" if config.first_seed > 0 else str(after)]
        return shlex.join(["python", "train_agent.py", *words, "--run", f"{config.run}-again"])
    words += ["--encoders", encoder] if encoder else []
    words += ["--controls", config.control] if config.control else []
    seeds = ["--seeds", str(_AGAIN_SEEDS), *(["--first-seed", str(after)] if config.first_seed < _AGAIN_SEEDS else [])]
    return shlex.join(["python", "compare_encoders.py", *words, *store, *seeds, "--run", f"{config.run}-again"])


def shared_options(argv: Sequence[str], replaced: Sequence[str] | dict[str, Any]) -> list[str]:
    """Return the words of a search's command line that other commands take too, without the options in `replaced`."""
    dropped = {f"--{_dashed(name)}" for name in (*_OWN_OPTIONS, *replaced)}
    kept, dropping = [], False
    for word in argv:
        if word.startswith("--"):
            dropping = _dashed(word.partition("=")[0]) in dropped
        if not dropping:
            kept.append(word)
    return kept


def to_json(findings: Findings, argv: Sequence[str]) -> dict[str, Any]:
    """Return everything that `search.json` says."""
    search = findings.search
    return {
        "format": FORMAT,
        "command": findings.command,
        "environment": search.config.environment.name,
        "steps": search.config.steps,
        "agent_seeds": [search.config.first_seed + index for index in range(search.config.seeds)],
        "evaluation_episodes": search.config.evaluation.final_episodes,
        "rungs": search.config.rungs,
        "space": search.space.plain(),
        "trials": [_trial_json(one) for one in findings.found],
        "warning": warning(findings),
        "run_again": again(findings, argv),
    }


def to_csv(findings: Findings) -> str:
    """Return a line a trial, best first."""
    names = findings.search.space.names
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "ended", "steps", "score", *names, "restarts", "message", "agents", "scores"])
    for one in findings.found:
        values = [shown(one.trial.values[name]) for name in names]
        known = ["" if number is None else number for number in (one.steps, one.score)]
        rungs = [f"{reached.step}: {reached.score:g}" for reached in one.record.scores]
        line = [one.trial.number, one.how, *known, *values, one.record.restarts, one.record.message]
        line += [" ".join(f"{score:g}" for score in one.agents), "; ".join(rungs)]
        writer.writerow([csv_cell(value) for value in line])
    return buffer.getvalue()


def shown(value: Any) -> str:
    """Return a hyperparameter's value as a person reads it."""
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _trial_json(one: Finding) -> dict[str, Any]:
    known = {"trial": one.trial.number, "ended": one.how, "steps": one.steps, "score": one.score, "values": one.trial.values}
    rungs = [{"step": reached.step, "score": reached.score} for reached in one.record.scores]
    known |= {"agents": one.agents, "restarts": one.record.restarts}
    return {**known, "scores": rungs, "encoder": one.encoder, "message": one.record.message, "folder": one.trial.key}


def _rank(one: Finding) -> tuple[float, ...]:
    return _ORDER.index(one.record.ended), -(one.steps or 0) if one.record.ended != "finished" else 0, -(one.score or 0.0), one.trial.number


def _option(name: str, value: Any) -> list[str]:
    words = [
        json.dumps(word) if not isinstance(word, (str, bool)) else str(word) for word in (value if isinstance(value, list) else [value])
    ]
    return [f"--{_dashed(name)}", *words]


def _dashed(name: str) -> str:
    return name.replace("_", "-")
