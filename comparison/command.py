"""The command `compare_encoders.py`, behind its door."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from agents.run.config import read_grid
from agents.run.representation import reading_line
from comparison.comparison import Comparison
from comparison.grid import RUNS
from comparison.progress import grid_progress
from comparison.report.files import JoinConfig, join_reports, write_report
from comparison.report.summary import Summary
from comparison.report.tables import failures, not_asked_line, print_table
from foundation.presets import parse
from foundation.progress import say

COMPARE = """Compare encoders and controls by episode return, over tasks, algorithms and seeds: name environment presets first, and agent
presets with --agent. Running the command again, or one with more, runs only what is missing.

One report of several comparisons: python compare_encoders.py join FOLDER FOLDER --run OUT"""
JOIN = """Write one report of several finished comparisons: rows of one task together, and all tasks with normalised scores."""


def compare(argv: Sequence[str]) -> int:
    """Run what is missing of a comparison and write its report; return the exit status: 1 where a run failed."""
    if argv and argv[0] == "join":
        return join(argv[1:])
    comparison = Comparison(read_grid(COMPARE, argv))
    comparison.check()
    folder = comparison.config.run
    for encoder in comparison.config.encoders:
        say(reading_line(encoder))
    say(comparison.extent())
    if comparison.missing():
        say(f"learning curves of all runs: tensorboard --logdir {folder / RUNS}")
    with grid_progress(comparison.parts) as table:
        received = comparison.run(table.ended, table.watch)
    if received is not None:
        say(f"stopped; {folder} holds what is done: run the same command again to go on")
        return 128 + received
    say("writing the report")
    status = _show_report(write_report(comparison, shlex.join(["python", "compare_encoders.py", *argv])), folder)
    for sentence in not_asked_line(comparison.not_asked()):
        print(sentence)
    return status


def join(argv: Sequence[str]) -> int:
    """Write one report of several comparisons; return the exit status: 1 where a run of theirs failed."""
    config = parse(JoinConfig, JOIN, argv, program="compare_encoders.py join")
    config.check()
    return _show_report(join_reports(config.folders, config.run, shlex.join(["python", "compare_encoders.py", "join", *argv])), config.run)


def _show_report(summaries: list[Summary], folder: Path) -> int:
    print_table(summaries)
    print(f"wrote {folder}: report.html, comparison.json, comparison.csv, rows.csv, figures as PNG and SVG")
    print(f"next: open {folder / 'report.html'} in a browser")
    return 1 if failures(summaries) else 0
