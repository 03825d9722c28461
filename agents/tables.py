"""A report's numbers outside its page: CSV, and the table in the terminal."""

import csv
import io
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agents.conclusions import conclusions
from agents.results import TaskResults
from agents.statistics import Estimate
from agents.summary import RowSummary, Summary, to_table

_HEADINGS = ("row", "seeds", "IQM", "95 % interval", "median", "gap", "seconds a run", "latents", "ms a frame", "encoder weights")


def runs_csv(tasks: list[TaskResults]) -> str:
    """Return a line a finished run."""
    heads = ["task", "row", "kind", "algorithm", "seed", "steps", "evaluation_episodes", "mean_return", "normalised", "seconds", "restarts"]
    lines: list[list[Any]] = []
    for task in tasks:
        for row in task.rows:
            for run in row.runs:
                normalised = float(task.target.normalised(run.score)) if task.target else ""
                about = [task.name, row.label, row.kind, row.algorithm or "", run.seed, run.steps, len(run.returns)]
                lines.append([*about, run.score, normalised, "" if run.seconds is None else run.seconds, run.restarts])
    return _csv(heads, lines)


def rows_csv(summaries: list[Summary]) -> str:
    """Return a line a row and task, with all estimates and their intervals."""
    lines = [line for summary in summaries for line in to_table(summary)]
    return _csv(list(lines[0]), [["" if value is None else value for value in line.values()] for line in lines])


def print_table(summaries: list[Summary]) -> None:
    """Print each summary's table and what can be concluded from it."""
    # not to a terminal, a table is as wide as it needs to be
    console = Console(markup=False)
    console.width = max(console.width, 128) if not console.is_terminal else console.width
    for summary in summaries:
        table = Table(title=_title(summary), title_justify="left", title_style="bold")
        for position, heading in enumerate(_HEADINGS):
            table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=position in (0, 3))
        for one in summary.rows:
            table.add_row(*_cells(summary, one), style="red" if one.iqm is None else None)
        console.print(table)
        for sentence in conclusions(summary):
            console.print(sentence, highlight=False)
    for failure in failures(summaries):
        console.print(f"failed: {failure}", highlight=False, style="red", markup=False)


def failures(summaries: list[Summary]) -> list[str]:
    """Return every failed run once."""
    return list(dict.fromkeys(failure for summary in summaries for one in summary.rows for failure in one.failures))


def seeds_cell(summary: Summary, one: RowSummary) -> str:
    """Return how many seeds finished, and of how many."""
    asked = max(task.seeds for task in summary.tasks)
    return f"{one.fewest_seeds}" if one.fewest_seeds == asked else f"{one.fewest_seeds} of {asked}"


def interval_cell(found: Estimate | None, digits: int = 2) -> str:
    """Return an interval in words: an en dash would read as a minus before a negative number."""
    return "–" if found is None else f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def value_cell(found: Estimate | None, digits: int = 2) -> str:
    """Return an estimate's value, or a dash."""
    return "–" if found is None else f"{found.value:.{digits}f}"


def _cells(summary: Summary, one: RowSummary) -> list[str]:
    seeds = seeds_cell(summary, one)
    if one.iqm is None:
        return [one.label, seeds, "failed", *[""] * (len(_HEADINGS) - 3)]
    encoder = one.row.encoder
    described = [f"{np.prod(encoder.latents)}", _speed(one), f"{encoder.parameters:,}"] if encoder else ["–"] * 3
    seconds = "–" if one.seconds is None else f"{one.seconds:,.0f}"
    numbers = [value_cell(one.iqm), interval_cell(one.iqm), value_cell(one.median), value_cell(one.optimality_gap)]
    return [one.label, seeds, *numbers, seconds, *described]


def _speed(one: RowSummary) -> str:
    speed = one.row.encoder.speed if one.row.encoder else None
    return f"{speed.milliseconds:.3f}" if speed else "–"


def _title(summary: Summary) -> str:
    if summary.normalised:
        return f"{summary.name}: normalised scores on {', '.join(task.name for task in summary.tasks)}"
    task = summary.tasks[0]
    return f"{summary.name}: return of {task.evaluation['final_episodes']} evaluation episodes after {task.steps:,} agent steps"


def _csv(heads: list[str], lines: list[list[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return buffer.getvalue()
