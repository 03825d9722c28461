"""A report's numbers outside its page: CSV, and the table in the terminal."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from comparison.report.conclusions import conclusions, share_cell
from comparison.report.estimates import RowSummary, Summary
from comparison.report.probes import TITLE as PROBES_TITLE
from comparison.report.probes import probe_lines, probed
from comparison.report.statistics import Estimate
from comparison.report.summary import curve_lines, to_table
from comparison.results import RowResults, TaskResults
from foundation.errors import csv_cell
from foundation.progress import PlainConsole, cells, tell_result

_HEADINGS = (
    *("row", "seeds", "IQM", "95 % interval", "median", "gap"),
    *("seconds\na run", "weights\nlearning", "weights\nfrozen", "latents", "ms\na frame"),
)
_ESSENTIAL = 4
"""Columns that even a narrow terminal shows: the row, its seeds, its score and the interval."""
_MOST_NAMED = 6


def runs_csv(tasks: list[TaskResults]) -> str:
    """Return a line a finished run."""
    heads = ["task", "row", "kind", "algorithm", "seed", "steps", "evaluation_episodes", "mean_return", "normalised", "seconds"]
    heads += ["restarts", "attempts", "evaluation_seconds", "machine"]
    lines: list[list[Any]] = []
    for task in tasks:
        for row in task.rows:
            for run in row.runs:
                normalised = float(task.target.normalised(run.score)) if task.target else ""
                about = [task.name, row.label, row.kind, row.algorithm or "", run.seed, run.steps, len(run.returns)]
                seconds, evaluating = ("" if one is None else one for one in (run.seconds, run.evaluation_seconds))
                lines.append([*about, run.score, normalised, seconds, run.restarts, run.attempts, evaluating, run.machine or ""])
    return _csv(heads, lines)


def rows_csv(summaries: list[Summary]) -> str:
    """Return a line a row and task, with all estimates and their intervals."""
    lines = to_table(summaries)
    return _csv(list(lines[0]), [["" if value is None else value for value in line.values()] for line in lines])


def curves_csv(summaries: list[Summary]) -> str:
    """Return a line a point of every learning curve, against agent steps and against seconds of training."""
    lines = curve_lines(summaries)
    return _csv(["task", "row", "against", "at", "iqm", "low", "high"], [list(line.values()) for line in lines])


def count_cell(count: float | None) -> str:
    """Return a count, or a dash where it is not known or there is none."""
    return "–" if count is None else f"{count:,.0f}"


def print_table(summaries: list[Summary]) -> None:
    """Print each summary's table and what can be concluded from it."""
    # not to a terminal, a table is as wide as it needs to be
    console = PlainConsole()
    console.width = max(console.width, 128) if not console.is_terminal else console.width
    for summary in summaries:
        console.print(_table(summary, console.width))
        if probed(summary.rows):
            console.print(_probes_table(summary, console.width))
        for sentence in conclusions(summary):
            tell_result(sentence)
    for failure in failures(summaries):
        tell_result(f"failed: {failure}", style="red")


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
    """Return how many seeds finished, on the task with the fewest, and of how many where some did not."""
    rows = [row for task in summary.tasks for row in task.rows if row.label == one.label]
    fewest = min(rows, key=lambda row: (len(row.runs), -len(row.failures)))
    finished, failed = len(fewest.runs), len(fewest.failures)
    return f"{finished} of {finished + failed}" if failed else f"{finished}"


def label_cell(one: RowSummary) -> str:
    """Return a row's name, with what it was told."""
    return f"{one.label} ({one.row.told})" if one.row.told else one.label


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
        headings, lines = _with_column(headings, lines, "started\nagain", [restarts_cell(one.row) for one in summary.rows])
    if any(one.gap_closed for one in summary.rows):
        headings, lines = _with_column(headings, lines, "untrained\nto oracle", [share_cell(one.gap_closed) for one in summary.rows])
    table = Table(title=_title(summary), title_justify="left", title_style="bold")
    return _filled(table, headings, lines, width, [one.iqm is None for one in summary.rows])


def _filled(table: Table, headings: list[str], lines: list[list[str]], width: int, bad: Sequence[bool]) -> Table:
    """Put columns and lines into a table, as many columns as there is room for, the `bad` lines in red."""
    taken = 1
    for position, (heading, *column) in enumerate(zip(headings, *lines, strict=True)):
        # two spaces and a border
        taken += 3 + max(len(text) for text in (*column, *heading.split("\n")))
        if position >= _ESSENTIAL and taken > width:
            headings = headings[:position]
            break
        table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=position > 0)
    for line, in_red in zip(lines, bad, strict=True):
        table.add_row(*cells(line[: len(headings)]), style="red" if in_red else None)
    return table


def _probes_table(summary: Summary, width: int) -> Table:
    """Lay out what the encoders' latents tell: a line a probe, a column an encoder."""
    headings, lines = probe_lines(summary)
    table = Table(title=PROBES_TITLE + "; rank correlations are with the IQM", title_justify="left", title_style="bold")
    return _filled(table, ["\n".join(heading.split(" with ")) for heading in headings], lines, width, [False] * len(lines))


def _with_column(headings: list[str], lines: list[list[str]], heading: str, cells: list[str]) -> tuple[list[str], list[list[str]]]:
    """Add a column behind the essential ones."""
    wider = [[*line[:_ESSENTIAL], cell, *line[_ESSENTIAL:]] for line, cell in zip(lines, cells, strict=True)]
    return [*headings[:_ESSENTIAL], heading, *headings[_ESSENTIAL:]], wider


def _cells(summary: Summary, one: RowSummary) -> list[str]:
    seeds = seeds_cell(summary, one)
    if one.iqm is None:
        return [label_cell(one), seeds, "failed", *[""] * (len(_HEADINGS) - 3)]
    encoder = one.row.encoder
    described = [f"{np.prod(encoder.latents)}", _speed(one)] if encoder else ["–"] * 2
    costs = [count_cell(one.seconds), count_cell(one.row.learning_parameters), count_cell(one.row.frozen_parameters)]
    numbers = [value_cell(one.iqm), interval_cell(one.iqm), value_cell(one.median), value_cell(one.optimality_gap)]
    return [label_cell(one), seeds, *numbers, *costs, *described]


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
    writer.writerows([csv_cell(value) for value in line] for line in lines)
    return buffer.getvalue()
