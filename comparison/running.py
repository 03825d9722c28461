"""A comparison from a command: what is checked, what runs, what is said at the end."""

from collections.abc import Sequence
from pathlib import Path

from agents.run.representation import reading_line
from comparison.comparison import Comparison
from comparison.config import JoinConfig, PartConfig
from comparison.grid import RUNS
from comparison.progress import grid_progress
from comparison.report.estimates import Summary
from comparison.report.files import join_reports, write_report
from comparison.report.tables import failures, not_asked_line, print_table
from foundation.progress import say, tell_result


def run_comparison(parts: Sequence[PartConfig], command: str) -> int:
    """Run what is missing of a comparison and write its report, which names the `command`; return the exit status."""
    comparison = Comparison(parts)
    comparison.check()
    folder = comparison.config.run
    for encoder in comparison.config.encoders:
        say(reading_line(encoder, None, comparison.config.scale, flat=True))
    say(comparison.extent())
    if comparison.missing():
        say(f"learning curves of all runs: tensorboard --logdir {folder / RUNS}")
    with grid_progress(comparison.parts) as table:
        received = comparison.run(table.ended, table.watch)
    if received is not None:
        say(f"stopped; finished work is in {folder}: run the same command again to resume")
        return 128 + received
    say("writing the report")
    status = _show_report(write_report(comparison, command), folder)
    for sentence in not_asked_line(comparison.not_asked()):
        tell_result(sentence)
    return status


def join_comparisons(config: JoinConfig, command: str) -> int:
    """Write one report of several comparisons, which names the `command`; return the exit status."""
    return _show_report(join_reports(config.folders, config.run, command), config.run)


def _show_report(summaries: list[Summary], folder: Path) -> int:
    print_table(summaries)
    tell_result(f"wrote {folder}: report.html, comparison.json, comparison.csv, rows.csv, curves.csv, figures as PNG and SVG")
    tell_result(f"next: open {folder / 'report.html'} in a browser")
    return 1 if failures(summaries) else 0
