"""A report's numbers outside its page: CSV, and the table in the terminal."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from comparison.report.conclusions import conclusions
from comparison.report.statistics import Estimate
from comparison.report.summary import RowSummary, Summary, to_table
from comparison.results import RowResults, TaskResults

_HEADINGS = ("row", "seeds", "IQM", "95 % interval", "median", "gap", "seconds\na run", "latents", "ms\na frame", "encoder\nweights")
_ESSENTIAL = 4
"""Columns that even a narrow terminal shows: the row, its seeds, its score and the interval."""
_MOST_NAMED = 6


def runs_csv(tasks: list[TaskResults]) -> str:
    """Return a line a finished run."""
    heads = ["task", "row", "kind", "algorithm", "seed", "steps", "evaluation_episodes", "mean_return", "normalised", "seconds"]
    heads += ["restarts", "attempts"]
    lines: list[list[Any]] = []
    for task in tasks:
        for row in task.rows:
            for run in row.runs:
                normalised = float(task.target.normalised(run.score)) if task.target else ""
                about = [task.name, row.label, row.kind, row.algorithm or "", run.seed, run.steps, len(run.returns)]
                lines.append([*about, run.score, normalised, "" if run.seconds is None else run.seconds, run.restarts, run.attempts])
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
        console.print(_table(summary, console.width))
        for sentence in conclusions(summary):
            console.print(sentence, highlight=False)
    for failure in failures(summaries):
        console.print(f"failed: {failure}", highlight=False, style="red", markup=False)


def restarts_cell(row: RowResults) -> str:
    """Return how often a row's runs were started again, and its environments; or a dash."""
    parts = [("runs", row.run_restarts), ("environments", row.restarts)]
    return ", ".join(f"{what} {count}" for what, count in parts if count) or "–"


def not_asked_line(rows: Sequence[str]) -> list[str]:
    """Return the sentence that names runs which lie in the folder and are not in the report; none where there are none."""
    if not rows:
        return []
    more = f" and {len(rows) - _MOST_NAMED} rows more" if len(rows) > _MOST_NAMED else ""
    return [f"Also in the folder, but not part of this command: {'; '.join(rows[:_MOST_NAMED])}{more}."]


def failures(summaries: list[Summary]) -> list[str]:
    """Return every failed run once."""
    return list(dict.fromkeys(failure for summary in summaries for one in summary.rows for failure in one.failures))


def seeds_cell(summary: Summary, one: RowSummary) -> str:
    """Return how many seeds finished, and of how many."""
    asked = max(task.seeds for task in summary.tasks)
    return f"{one.fewest_seeds}" if one.fewest_seeds == asked else f"{one.fewest_seeds} of {asked}"


def interval_cell(found: Estimate | None, digits: int = 2) -> str:
    """Return an interval in words: an en dash would read as a minus before a negative number."""
    return "–" if found is None else f"{found.low:z.{digits}f} to {found.high:z.{digits}f}"


def value_cell(found: Estimate | None, digits: int = 2) -> str:
    """Return an estimate's value, or a dash; what rounds to zero has no sign."""
    return "–" if found is None else f"{found.value:z.{digits}f}"


def _table(summary: Summary, width: int) -> Table:
    """Lay out the summary's rows; columns on the right for which there is no room stay out, and stand in `rows.csv`."""
    lines = [_cells(summary, one) for one in summary.rows]
    headings = list(_HEADINGS)
    if any(one.row.restarts or one.row.run_restarts for one in summary.rows):
        headings.insert(_ESSENTIAL, "started\nagain")
        lines = [[*line[:_ESSENTIAL], restarts_cell(one.row), *line[_ESSENTIAL:]] for line, one in zip(lines, summary.rows, strict=True)]
    table = Table(title=_title(summary), title_justify="left", title_style="bold")
    taken = 1
    for position, (heading, *column) in enumerate(zip(headings, *lines, strict=True)):
        # two spaces and a border
        taken += 3 + max(len(text) for text in (*column, *heading.split("\n")))
        if position >= _ESSENTIAL and taken > width:
            headings = headings[:position]
            break
        table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=position > 0)
    for line, one in zip(lines, summary.rows, strict=True):
        table.add_row(*line[: len(headings)], style="red" if one.iqm is None else None)
    return table


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
