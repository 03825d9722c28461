"""A comparison's report: JSON, CSV, figures as PNG and SVG, and one HTML file; of one comparison, or of several joined."""

import json
import math
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from comparison.collect import collect
from comparison.comparison import Comparison
from comparison.joining import join, of_sources_apart
from comparison.report.conclusions import conclusions
from comparison.report.estimates import Pair, Summary
from comparison.report.page import page
from comparison.report.plots import figures, png, row_colours, svg
from comparison.report.summary import curve_lines, summarise, to_table
from comparison.report.tables import curves_csv, rows_csv, runs_csv
from comparison.results import FORMAT, REPORT_FILE, TaskResults, read_results, to_plain
from foundation.documents import read
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.folders import COMPARISON, refuse_others
from foundation.presets import to_dict

_PACKAGES = ("torch", "stable-baselines3", "gymnasium", "ray", "numpy")


def write_report(comparison: Comparison, command: str) -> list[Summary]:
    """Write the report of a comparison into its folder and return what it says."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return write_files(comparison.config.run, collect(comparison, command, versions), command, comparison.not_asked())


def join_reports(folders: tuple[Path, ...], out: Path, command: str) -> list[Summary]:
    """Write one report of several comparisons into `out`: rows of one task together, and all tasks with normalised scores.

    Raises `UserError` for a folder without a comparison of this version, for one named twice, and where `out` is one of them.
    """
    places = [folder.resolve() for folder in (*folders, out)]
    if len(set(places)) < len(places):
        raise UserError("a folder is named twice; --run must name a folder of its own")
    for name, what in (("runs", "a comparison's runs"), ("trials", "a search's trials")):
        if (out / name).is_dir():
            raise UserError(f"{out}: holds {what}; choose another --run")
    refuse_others(out, COMPARISON)
    return write_files(out, join(of_sources_apart(read_results(folder) for folder in folders)), command)


def write_files(folder: Path, tasks: list[TaskResults], command: str, not_asked: Sequence[str] = ()) -> list[Summary]:
    """Write `comparison.json`, `comparison.csv`, `rows.csv`, `curves.csv`, the figures and `report.html`; return the summaries."""
    summaries = summarise(tasks)
    colours = row_colours(summaries)
    drawings: dict[str, dict[str, str]] = {}
    drawn_before, pictures = _figures_before(folder), dict[str, tuple[bytes, str]]()
    for summary in summaries:
        drawn = figures(summary, colours)
        drawings[summary.name] = {name: svg(figure) for name, figure in drawn.items()}
        for name, figure in drawn.items():
            stem = name if len(summaries) == 1 else f"{name}_{re.sub(r'[^A-Za-z0-9]+', '_', summary.name).strip('_')}"
            pictures[stem] = (png(figure), drawings[summary.name][name])
    content = {**to_json(folder, tasks, summaries, command), "not_asked": list(not_asked), "figures": list(pictures)}
    # the first: it says what the folder holds, whenever the process is killed
    write_atomically(folder / REPORT_FILE, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")
    for stem, (raster, drawing) in pictures.items():
        write_atomically(folder / f"{stem}.png", raster)
        write_atomically(folder / f"{stem}.svg", drawing)
    for stem in drawn_before - pictures.keys():
        for form in ("png", "svg"):
            (folder / f"{stem}.{form}").unlink(missing_ok=True)
    write_atomically(folder / "comparison.csv", runs_csv(tasks))
    write_atomically(folder / "rows.csv", rows_csv(summaries))
    write_atomically(folder / "curves.csv", curves_csv(summaries))
    write_atomically(folder / "report.html", page(summaries, tasks, drawings, command, not_asked))
    return summaries


def _figures_before(folder: Path) -> set[str]:
    """Return the names of the figures that the report before this one has drawn; none where it does not say."""
    try:
        found = read(folder / REPORT_FILE).get("figures", [])
    except (UserError, AttributeError):
        return set()
    return {str(name) for name in found if re.fullmatch(r"\w+", str(name))} if isinstance(found, list) else set()


def to_json(folder: Path, tasks: list[TaskResults], summaries: list[Summary], command: str) -> dict[str, Any]:
    """Return everything a report says: `rows` and `conclusions` for reading, `results` for joining."""
    return {
        "format": FORMAT,
        "command": command,
        "rows": to_table(summaries),
        "curves": curve_lines(summaries),
        "improvements": [_pair(summary, pair) for summary in summaries for pair in summary.improvements],
        "paired_differences": [_pair(summary, pair) | {"pairs": pair.pairs} for summary in summaries for pair in summary.differences],
        "profiles": [_profile(summary, key) for summary in summaries for key in summary.profiles],
        "gaps": [to_dict(gap) | {"task": summary.name} for summary in summaries for gap in summary.gaps],
        "probe_correlations": [to_dict(one) | {"task": summary.name} for summary in summaries for one in summary.correlations],
        "conclusions": [{"task": summary.name, "sentences": conclusions(summary)} for summary in summaries],
        "results": [to_plain(task, folder) for task in tasks],
    }


def _pair(summary: Summary, pair: Pair) -> dict[str, Any]:
    return {"task": summary.name, "row": pair.row, "over": pair.over, "value": pair.found.value, "interval": list(pair.found.interval)}


def _profile(summary: Summary, key: str) -> dict[str, Any]:
    share, low, high = (numbers.round(4).tolist() for numbers in summary.profiles[key])
    label = next(one.label for one in summary.rows if one.row.key == key)
    return {"task": summary.name, "row": label, "thresholds": summary.thresholds.tolist(), "share_above": share, "low": low, "high": high}


def _finite(content: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by null."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
