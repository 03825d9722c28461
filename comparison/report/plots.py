"""A report's figures: intervals a row, learning curves, performance profiles; as PNG, as SVG, and as SVG for a page with two themes."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from comparison.report.estimates import RowSummary, Summary
from comparison.report.statistics import Estimate
from foundation.errors import figure_label

# Okabe and Ito's colours, told apart by colour-blind readers too; players that do not learn are grey
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7a5cc0", "#B2A000")
_PLAYER_COLOURS = {"random": "#8a8a8a", "scripted": "#6d6d6d"}
_DASHES = {"random": (0, (2, 2)), "scripted": (0, (6, 3))}
# of the first eight learners, the next eight, and the next: tones of one colour alone are hard to tell apart in a line
_STROKES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (1, 1)))
_MARKERS = ("o", "s", "^")
_INK, _GRID, _PAPER, _BAD = "#1c2430", "#dddddd", "#fefefe", "#b00020"
# what these are on a page: its own colours, which follow its theme
_ON_PAGE = {_INK: "currentColor", _GRID: "var(--line)", _PAPER: "var(--paper)", _BAD: "var(--bad)"}
_DPI, _WIDTH = 160, 7.2


def row_colours(summaries: list[Summary]) -> dict[str, str]:
    """Return one colour a row's label, the same in every figure of a report."""
    rows = {one.label: one.row for summary in summaries for one in summary.rows}
    learners = [label for label, row in rows.items() if row.player is None]
    colours = {label: _colour(index) for index, label in enumerate(learners)}
    return colours | {label: _PLAYER_COLOURS[row.player] for label, row in rows.items() if row.player}


def _colour(index: int) -> str:
    """Return the colour of a learner by its number; after all eight, the same ones darker, then lighter."""
    turn, place = divmod(index, len(_COLOURS))
    other, share = ((0.0, 0.0), (0.0, 0.45), (1.0, 0.5))[turn % 3]
    red, green, blue = ((1 - share) * part + share * other for part in to_rgb(_COLOURS[place]))
    return to_hex((red, green, blue))


def _turn(one: RowSummary, colours: dict[str, str]) -> int:
    """Return how often the colours had been through when a learner got its own: what its strokes and markers follow from."""
    return list(colours).index(one.label) // len(_COLOURS) % len(_STROKES)


def _from_the_top(summary: Summary) -> list[RowSummary]:
    """Return the rows as their curves end, the highest first: a legend that is read beside them."""
    return sorted(summary.rows, key=lambda one: -one.iqm.value if one.iqm else inf)


def figures(summary: Summary, colours: dict[str, str]) -> dict[str, Figure]:
    """Return the figures of one task, or of all tasks together, by name."""
    drawn = {"intervals": intervals_figure(summary, colours)}
    if any(one.curve for one in summary.rows):
        drawn["curves"] = curves_figure(summary, colours)
    if any(one.timed_curve for one in summary.rows):
        drawn["curves_seconds"] = curves_figure(summary, colours, against_seconds=True)
    if summary.profiles:
        drawn["profiles"] = profiles_figure(summary, colours)
    return drawn


def intervals_figure(summary: Summary, colours: dict[str, str]) -> Figure:
    """Draw each row's interquartile mean, its interval and every run as a dot."""
    with _axes(summary, 0.5 * len(summary.rows) + 1.4) as (figure, axes):
        limit = _limit(summary)
        for height, one in enumerate(reversed(summary.rows)):
            colour = colours[one.label]
            if one.iqm is None:
                axes.text(0.01, height, "failed: no result", color=_BAD, va="center", transform=axes.get_yaxis_transform())
            elif limit is not None and one.iqm.value > limit:
                beyond = f"{one.iqm.value:.1f} →"
                axes.text(0.99, height, beyond, color=colour, va="center", ha="right", transform=axes.get_yaxis_transform())
            else:
                _draw_interval(axes, height, one, colour)
        labels = [f"{figure_label(one.label)}\n({_seeds(one)})" for one in reversed(summary.rows)]
        axes.set_yticks(range(len(labels)), labels, fontsize=9)
        axes.set_ylim(-0.6, len(summary.rows) - 0.4)
        axes.set_xlim(_start(summary), limit)
        axes.set_xlabel(_score_axis(summary))
        axes.set_title("line: interquartile mean · band: 95 % bootstrap interval · dots: agents", loc="left", fontsize=9.5)
        _plain(axes, "x")
    return figure


def curves_figure(summary: Summary, colours: dict[str, str], against_seconds: bool = False) -> Figure:
    """Draw the learning curve of every row with a band of 95 % intervals over seeds, against agent steps or seconds of training."""
    task = summary.tasks[0]
    with _axes(summary, 4.4 + _legend_height(summary)) as (figure, axes):
        limit = _limit(summary)
        # many on top of one another would be one grey
        band = 0.15 if len(summary.rows) <= 8 else 0.06
        for one in _from_the_top(summary):
            colour = colours[one.label]
            if one.row.player and one.iqm:
                where = f"{one.iqm.value:.1f}, above the axis" if limit is not None and one.iqm.value > limit else "does not learn"
                label = f"{figure_label(one.label)} ({where})"
                axes.axhline(one.iqm.value, color=colour, linestyle=_DASHES[one.row.player], linewidth=1.4, label=label)
            curve: Sequence[tuple[float, Estimate]] = one.timed_curve if against_seconds else one.curve
            if curve:
                places, points = zip(*curve, strict=True)
                axes.fill_between(places, [p.low for p in points], [p.high for p in points], color=colour, alpha=band, linewidth=0)
                label = f"{figure_label(one.label)} ({_seeds(one)})"
                # at times in between evaluations a curve was not measured
                marker, stroke = "" if against_seconds else _MARKERS[_turn(one, colours)], _STROKES[_turn(one, colours)]
                (line,) = axes.plot(places, [p.value for p in points], color=colour, linestyle=stroke, linewidth=1.8, label=label)
                line.set(marker=marker, markersize=3.5)
        steps = f"agent steps of training (each {task.step_length})"
        axes.set_xlabel("seconds of training, without evaluation" if against_seconds else steps)
        axes.set_ylabel(_score_axis(summary))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
        axes.set_xlim(left=0)
        shown = [point.low for one in summary.rows for _, point in (one.timed_curve if against_seconds else one.curve)]
        axes.set_ylim(_start(summary, shown), limit)
        episodes = f"{task.evaluation['episodes']} evaluation episodes a point and seed, {task.evaluation['final_episodes']} at the last"
        more = "straight lines between evaluations, where all seeds were under way" if against_seconds else episodes
        axes.set_title(f"interquartile mean over seeds, band: 95 % bootstrap interval\n{more}", loc="left", fontsize=9.5)
        _legend(axes)
        _plain(axes, "both")
    return figure


def profiles_figure(summary: Summary, colours: dict[str, str]) -> Figure:
    """Draw the share of runs that score above each threshold, with pointwise bands."""
    with _axes(summary, 4.2 + _legend_height(summary)) as (figure, axes):
        for one in summary.rows:
            if one.row.key in summary.profiles:
                profile, low, high = summary.profiles[one.row.key]
                colour = colours[one.label]
                axes.fill_between(summary.thresholds, low, high, color=colour, alpha=0.13, linewidth=0, step="post")
                dashes = _DASHES[one.row.player] if one.row.player else _STROKES[_turn(one, colours)]
                label = figure_label(one.label)
                axes.step(summary.thresholds, profile, where="post", color=colour, linestyle=dashes, linewidth=1.7, label=label)
        axes.set_xlabel(_score_axis(summary) + ", threshold")
        axes.set_ylabel("share of agents above it")
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("further right is better · band: pointwise 95 % bootstrap interval", loc="left", fontsize=9.5)
        _legend(axes)
        _plain(axes, "both")
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Return a figure as SVG without a background; its text is drawn as shapes, so that no font is needed."""
    buffer = io.StringIO()
    # without the salt and the date two reports on the same results would differ
    with rc_context({"svg.hashsalt": "minerl-perception", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def on_page(drawing: str, prefix: str) -> str:
    """Return an SVG to stand inside HTML: in the page's colours, scaled by its style, its ids made unique by `prefix`."""
    body = drawing[drawing.index("<svg") :]
    opening, rest = body.split(">", 1)
    box = opening[opening.index("viewBox") :].split('"')[1]
    for colour, on_a_page in _ON_PAGE.items():
        rest = rest.replace(colour, on_a_page)
    for before in ('id="', 'href="#', "url(#"):
        rest = rest.replace(before, before + prefix)
    rest = rest[: rest.index("<metadata>")] + rest[rest.index("</metadata>") + len("</metadata>") :] if "<metadata>" in rest else rest
    return f'<svg viewBox="{box}" aria-hidden="true">{rest.strip()}'


@contextmanager
def _axes(summary: Summary, height: float) -> Iterator[tuple[Figure, Axes]]:
    with rc_context({"text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        yield figure, axes


def _draw_interval(axes: Axes, height: float, one: RowSummary, colour: str) -> None:
    assert one.iqm
    axes.plot(one.iqm.interval, [height, height], color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
    axes.plot([one.iqm.value] * 2, [height - 0.24, height + 0.24], color=colour, linewidth=2.6, solid_capstyle="butt")
    scores = one.all_scores
    spread = height + np.linspace(-0.1, 0.1, len(scores)) if len(scores) > 1 else [height]
    axes.plot(scores, spread, "o", color=colour, markersize=3.8, markeredgecolor=_PAPER, markeredgewidth=0.5)


def _limit(summary: Summary) -> float | None:
    """Return where the axis ends when a player that does not learn would squeeze the agents into a corner, else None."""
    learners = [one for one in summary.rows if one.row.player is None]
    highest = max((max([*one.all_scores, *(point.high for _, point in one.curve)], default=0.0) for one in learners), default=0.0)
    squeezed = any(one.row.player and one.iqm and one.iqm.value > 1.8 * highest for one in summary.rows)
    return 1.15 * highest if squeezed and highest > 0 else None


def _start(summary: Summary, others: Sequence[float] = ()) -> float | None:
    """Return where the axis of scores begins: just below zero where none is negative, nor any other that is shown, else None."""
    scores = [*others, *(score for one in summary.rows for score in one.all_scores)]
    highest = max((score for one in summary.rows if one.row.player is None for score in one.all_scores), default=0.0)
    return -0.03 * highest if highest > 0 and min(scores) >= 0 else None


def _score_axis(summary: Summary) -> str:
    if summary.normalised:
        return "normalised score (0 random policy, 1 target)"
    unit = summary.tasks[0].unit
    return "evaluation return" + (f" ({unit})" if unit else "")


def _seeds(one: RowSummary) -> str:
    counts = sorted({len(task) for task in one.scores})
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    counted = f"{text} seed" if text == "1" else f"{text} seeds"
    return f"{counted}, {one.row.told}" if one.row.told else counted


def _legend_height(summary: Summary) -> float:
    """Return the inches that a legend of many rows takes beyond one of eight."""
    return 0.1 * max(len(summary.rows) - 8, 0)


def _legend(axes: Axes) -> None:
    # below the axes: beside them it would take half of a phone's width
    axes.legend(fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handlelength=3)


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=_GRID, linewidth=0.7)  # type: ignore[arg-type]
    axes.tick_params(colors=_INK)
    axes.set_axisbelow(True)
