"""A search's report: the table in the terminal, JSON, CSV, the figure, and one HTML file."""

import html
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from comparison.report.page import STYLE
from comparison.report.plots import on_page, png, svg
from foundation.errors import figure_label
from foundation.files import write_atomically
from foundation.progress import PlainConsole, cells, tell_result
from search.findings import Finding, Findings, again, find, shown, to_csv, to_json, warning
from search.search import Search
from search.space import Parameter

_FINISHED, _STOPPED, _FAILED = "#0072B2", "#E69F00", "#b00020"
_INK = "#1c2430"
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.4, 2.9


def write_search_report(search: Search, argv: Sequence[str]) -> Findings:
    """Write `search.json`, `search.csv`, `scores.png`, `scores.svg` and `report.html` into the search's folder; return what they say."""
    findings, folder = find(search, argv), search.config.run
    figure = scores_figure(findings)
    drawing = svg(figure)
    write_atomically(folder / "scores.png", png(figure))
    write_atomically(folder / "scores.svg", drawing)
    write_atomically(folder / "search.json", json.dumps(to_json(findings, argv), indent=2, allow_nan=False) + "\n")
    write_atomically(folder / "search.csv", to_csv(findings))
    write_atomically(folder / "report.html", page(findings, drawing, again(findings, argv)))
    return findings


def print_findings(findings: Findings, next_command: str | None) -> None:
    """Print the table of trials, best first, the warning, and the command that runs the best one again."""
    console = PlainConsole()
    # not to a terminal, a table is as wide as it needs to be
    console.width = console.width if console.is_terminal else max(console.width, 60 + 16 * len(findings.search.space.names))
    table = Table(title=_title(findings), title_justify="left", title_style="bold")
    for heading in cells(_headings(findings)):
        table.add_column(heading, justify="right", overflow="fold")
    for one in findings.found:
        table.add_row(*cells(_cells(findings, one)), style="red" if one.record.ended == "failed" else None)
    console.print(table)
    for failure in findings.failures:
        tell_result(f"failed: {failure}", style="red")
    tell_result(warning(findings))
    if next_command:
        tell_result(f"next: {next_command}")


def scores_figure(findings: Findings) -> Figure:
    """Draw each trial's score over each hyperparameter: log where the space is, failed trials as crosses below."""
    parameters = findings.search.space.parameters
    rows = -(-len(parameters) // _COLUMNS)
    columns = min(_COLUMNS, len(parameters))
    ink: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK)
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, **ink}):
        figure = Figure(figsize=(max(_WIDTH * columns, 4.5), _HEIGHT * rows + 0.6), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, parameter in zip(grid.flat, parameters, strict=False):
            _draw(axes, parameter, findings)
        for axes in grid.flat[len(parameters) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("mean episode return")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False)
    return figure


def page(findings: Findings, drawing: str, next_command: str | None) -> str:
    """Return the report as one page that needs no network."""
    config, space = findings.search.config, findings.search.space.plain()
    title = f"Hyperparameter search on {config.environment.name}"
    rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in _cells(findings, one)) + "</tr>" for one in findings.found)
    heads = "".join(f"<th>{_text(heading)}</th>" for heading in _headings(findings))
    failures = "".join(f"<li>{_text(failure)}</li>" for failure in findings.failures)
    sections = [
        f"<h1>{_text(title)}</h1><p class=lead>{_text(_title(findings))}. {_text(_method(findings))}</p>",
        f'<p class="finding warning">{_text(warning(findings))}</p>',
        f"<pre>{_text(next_command)}</pre>" if next_command else "",
        f"<h2>Trials</h2><div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>",
        f"<h2>Failed</h2><ul>{failures}</ul>" if failures else "",
        f"<h2>Scores</h2><figure><div class=scroll><div class=figure>{on_page(drawing, 'scores-')}</div></div></figure>",
        f"<h2>Command and space</h2><pre>{_text(findings.command)}\n\n{_text(_space_lines(space))}</pre>",
        f"<footer>Written {time.strftime('%Y-%m-%d %H:%M')}.</footer>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{_text(title)}</title>'
    # else a browser asks a server for one
    head += f'<link rel="icon" href="data:,"><style>\n{STYLE.read_text()}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(sections)}\n</main></body></html>\n'


def _draw(axes: Axes, parameter: Parameter, findings: Findings) -> None:
    place = _places(parameter, findings)
    for ended, label, colour, filling in (
        ("finished", "all steps", _FINISHED, _FINISHED),
        ("stopped early", "stopped early (score there)", _STOPPED, "none"),
    ):
        chosen = [one for one in findings.found if one.record.ended == ended]
        scores = [one.score or 0.0 for one in chosen]
        axes.scatter([place(one) for one in chosen], scores, s=26, label=label, edgecolors=colour, facecolors=filling)
    failed = [place(one) for one in findings.found if one.record.ended == "failed"]
    # below the axis' scores, which a failed trial has none of
    axes.scatter(failed, [0.03] * len(failed), marker="x", s=26, color=_FAILED, label="failed", transform=axes.get_xaxis_transform())
    _scale_axis(axes, parameter)
    axes.set_xlabel(figure_label(parameter.name))
    axes.tick_params(which="both", colors=_INK)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _scale_axis(axes: Axes, parameter: Parameter) -> None:
    """Show the whole range of the space, whatever was drawn of it."""
    if not parameter.bounded:
        axes.set_xticks(range(len(parameter.values)), [figure_label(shown(value)) for value in parameter.values])
        axes.set_xlim(-0.5, len(parameter.values) - 0.5)
        return
    low, high = parameter.values
    if parameter.kind == "loguniform":
        axes.set_xscale("log")
        margin = (high / low) ** 0.05
        axes.set_xlim(low / margin, high * margin)
    elif parameter.kind == "randint":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(low - 0.5, high - 0.5)
    else:
        margin = 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)


def _places(parameter: Parameter, findings: Findings) -> Any:
    """Return what tells where a trial lies on a hyperparameter's axis: its value, or the number of the value it has."""
    if parameter.bounded:
        return lambda one: one.trial.values[parameter.name]
    order = [shown(value) for value in parameter.values]
    return lambda one: order.index(_nearest(order, shown(one.trial.values[parameter.name])))


def _nearest(order: list[str], value: str) -> str:
    """Return the entry that is `value`, perhaps written otherwise: 1e-4 is a text in YAML."""
    if value in order:
        return value
    return next(entry for entry in order if np.isclose(float(entry), float(value), rtol=1e-9))


def _headings(findings: Findings) -> list[str]:
    agents = ["agents"] if findings.search.config.seeds > 1 else []
    return ["trial", "score", *agents, "steps", "ended", *_short(findings.search.space.names)]


def _short(names: list[str]) -> list[str]:
    """Return the last parts of dotted names, whole names where several end alike."""
    last = [name.rpartition(".")[2] for name in names]
    return [end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)]


def _cells(findings: Findings, one: Finding) -> list[str]:
    score = "–" if one.score is None else f"{one.score:.2f}"
    agents = [f"{min(one.agents):.2f} to {max(one.agents):.2f}" if one.agents else "–"] if findings.search.config.seeds > 1 else []
    steps = "–" if one.steps is None else f"{one.steps:,}"
    return [one.trial.key, score, *agents, steps, one.how, *(shown(one.trial.values[name]) for name in findings.search.space.names)]


def _title(findings: Findings) -> str:
    config = findings.search.config
    agents = "1 agent" if config.seeds == 1 else f"{config.seeds} agents"
    episodes = config.evaluation.final_episodes
    restarts = f"; {findings.restarts} restarts after workers died" if findings.restarts else ""
    about = f"mean return of {episodes} evaluation episodes after {config.steps:,} agent steps"
    return f"{len(findings.found)} trials of {agents}: {about}{restarts}"


def _method(findings: Findings) -> str:
    config = findings.search.config
    if not config.rungs:
        return "Every trial does all steps."
    rungs = ", ".join(f"{rung:,}" for rung in config.rungs)
    episodes = config.evaluation.episodes
    return (
        f"ASHA may stop a trial after {rungs} steps, by {episodes} evaluation episodes: the score of a trial that was stopped early is of "
        "fewer steps and episodes, and stands below all that did all steps."
    )


def _space_lines(space: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {json.dumps(content)}" for name, content in space.items())


def _text(text: str) -> str:
    return html.escape(text, quote=True)
