"""Results of one task put under one another: parts of one comparison, or reports of several."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

from agents.run.config import EvaluationConfig, plain
from agents.run.environment_config import EnvironmentConfig
from comparison.results import ORDER, RowResults, TaskResults
from foundation.env_options import shareable

_LATER = {"environment": plain(EnvironmentConfig(name="")), "evaluation": plain(EvaluationConfig())}
"""What holds of a task where its report was made before one could say it."""


def join(parts: list[TaskResults]) -> list[TaskResults]:
    """Put rows of the same task under one another; name the algorithm where rows learned by several, the folder where names clash.

    Tasks in the same environment are named apart by their variants, or numbered.
    """
    joined: list[TaskResults] = []
    for part in _labelled(_told_apart(parts)):
        same = next((index for index, task in enumerate(joined) if _same_task(task, part)), None)
        if same is None:
            joined.append(part)
        else:
            joined[same] = _with_rows(joined[same], part)
    # there are several, too, where one algorithm had other settings
    joined = _labelled(joined)
    return [replace(task, name=_name_apart(task, joined)) for task in joined]


def of_sources_apart(reports: Iterable[list[TaskResults]]) -> list[TaskResults]:
    """Return the tasks of several reports; a source that is called as one of a report before has a number behind its name."""
    tasks, taken = list[TaskResults](), set[str]()
    for report in reports:
        names = {source: _numbered(source, taken) for source in dict.fromkeys(task.source for task in report)}
        taken |= set(names.values())
        tasks += [replace(task, source=names[task.source]) for task in report]
    return tasks


def _numbered(name: str, taken: set[str]) -> str:
    return next(one for number in count(1) if (one := name if number == 1 else f"{name} {number}") not in taken)


def _labelled(tasks: list[TaskResults]) -> list[TaskResults]:
    if len({row.algorithm for task in tasks for row in task.rows if row.algorithm}) < 2:
        return tasks
    return [replace(task, rows=[replace(row, label=_with_algorithm(row)) for row in task.rows]) for task in tasks]


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


def _same_task(one: TaskResults, other: TaskResults) -> bool:
    return one.steps == other.steps and _where(one) == _where(other)


def _where(task: TaskResults) -> list[dict[str, Any]]:
    """Return in which worlds agents act and are judged: not how a game runs, nor where the recorded actions lie, whose hash is there."""
    environment, evaluation = ({**later, **task.settings[key]} for key, later in _LATER.items())
    return [shareable({**environment, "action_store": None}), evaluation]


def _with_rows(task: TaskResults, part: TaskResults) -> TaskResults:
    # players of one task play the same episodes in every comparison: one that has played stands for all
    playing = {row.label for row in part.rows if row.player and row.runs}
    kept = [row for row in task.rows if not row.player or row.runs or row.label not in playing]
    taken = {row.label for row in kept}
    added = [row for row in part.rows if not (row.player and row.label in taken)]
    named = [replace(row, label=_free(row.label, f" ({part.source})", taken)) for row in added]
    ordered = sorted([*kept, *_keys_of_their_own(kept, named, part)], key=lambda row: ORDER.index(row.kind))
    seeds = {"seeds": max(task.seeds, part.seeds)}
    commands = list(dict.fromkeys([*task.commands, *part.commands]))
    versions = task.versions | {name: _versions_of_both(task.versions.get(name), one) for name, one in part.versions.items()}
    algorithms = task.algorithms | {name: _settings_of_both(task.algorithms.get(name, {}), one) for name, one in part.algorithms.items()}
    settings = task.settings | seeds
    return replace(task, rows=ordered, commands=commands, settings=settings, algorithms=algorithms, versions=versions)


def _told_apart(parts: list[TaskResults]) -> list[TaskResults]:
    """Name an algorithm with its folder, on every task of that, where it had other settings than before on one of them."""
    other: set[tuple[str, str]] = set()
    for index, part in enumerate(parts):
        for before in parts[:index]:
            shared = before.algorithms.keys() & part.algorithms.keys() if _same_task(before, part) else ()
            plain = [name for name in shared if (before.source, name) not in other]
            other |= {(part.source, name) for name in plain if not _alike(before.algorithms[name], part.algorithms[name])}
    return [_renamed(part, {name: f"{name} ({part.source})" for source, name in other if source == part.source}) for part in parts]


def _alike(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether settings are the same as far as both say them; one of both may know nothing of rows on pixels."""
    return all(before[key] == now[key] for key in before.keys() & now.keys() if {} not in (before[key], now[key]))


def _renamed(part: TaskResults, names: dict[str, str]) -> TaskResults:
    algorithms = {names.get(name, name): settings for name, settings in part.algorithms.items()}
    return replace(part, algorithms=algorithms, rows=[_learned_by(row, names) for row in part.rows])


def _learned_by(row: RowResults, names: dict[str, str]) -> RowResults:
    before, now = row.algorithm, names.get(row.algorithm or "", row.algorithm)
    if now == before:
        return row
    return replace(row, algorithm=now, label=f"{row.label.removesuffix(f' with {before}')} with {now}")


def _settings_of_both(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {**before, **{key: one for key, one in now.items() if one != {}}}


def _versions_of_both(before: str | None, now: str) -> str:
    """Return a version, or all that joined comparisons ran with."""
    known = [] if before is None else before.split(" and ")
    return " and ".join(dict.fromkeys([*known, *now.split(" and ")]))


def _keys_of_their_own(before: list[RowResults], added: list[RowResults], part: TaskResults) -> list[RowResults]:
    taken = {row.key for row in before}
    return [replace(row, key=_free(row.key, f"@{part.source}", taken)) for row in added]


def _free(name: str, more: str, taken: set[str]) -> str:
    """Return the name with as much more behind it as it takes to be a new one."""
    while name in taken:
        name += more
    return name
