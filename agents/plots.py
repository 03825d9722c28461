"""A comparison's two figures: intervals a row, and learning curves."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.comparison import Comparison
from agents.statistics import interquartile_interval, interquartile_mean
from agents.summary import RowSummary

# Okabe and Ito's colours, told apart by colour-blind readers too; players that do not learn are grey
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B2A000")
_PLAYER_COLOURS = {"random": "#8a8a8a", "scripted": "#4d4d4d"}
_DASHES = {"random": (0, (2, 2)), "scripted": (0, (6, 3))}
_DPI = 160


def row_colours(summaries: list[RowSummary]) -> dict[str, str]:
    """Return one colour a row, the same in every figure."""
    learners = [one for one in summaries if one.row.player is None]
    colours = {one.row.key: _COLOURS[index % len(_COLOURS)] for index, one in enumerate(learners)}
    return colours | {one.row.key: _PLAYER_COLOURS[one.row.player] for one in summaries if one.row.player}


def intervals_figure(comparison: Comparison, summaries: list[RowSummary]) -> bytes:
    """Draw each row's interquartile mean, its interval and every seed as a dot; return PNG."""
    colours = row_colours(summaries)
    figure = Figure(figsize=(8.4, 0.52 * len(summaries) + 1.5), layout="constrained")
    axes = figure.subplots()
    limit = _limit(summaries)
    for height, one in enumerate(reversed(summaries)):
        colour = colours[one.row.key]
        if limit is not None and one.iqm is not None and one.iqm > limit:
            axes.text(0.99, height, f"{one.iqm:.1f} →", color=colour, va="center", ha="right", transform=axes.get_yaxis_transform())
            continue
        if one.iqm is None or one.interval is None:
            axes.text(0.01, height, "failed: no result", color="#b00020", va="center", transform=axes.get_yaxis_transform())
            continue
        axes.plot(one.interval, [height, height], color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
        axes.plot([one.iqm, one.iqm], [height - 0.24, height + 0.24], color=colour, linewidth=2.6, solid_capstyle="butt")
        spread = height + np.linspace(-0.1, 0.1, len(one.scores)) if len(one.scores) > 1 else [height]
        axes.plot(one.scores, spread, "o", color=colour, markersize=3.6, markeredgecolor="white", markeredgewidth=0.5)
    axes.set_yticks(range(len(summaries)), [f"{one.label}\n({_seeds(len(one.scores))})" for one in reversed(summaries)], fontsize=9)
    axes.set_ylim(-0.6, len(summaries) - 0.4)
    axes.set_xlim(_start(summaries), limit)
    axes.set_xlabel("episode return" + _unit(comparison))
    episodes = comparison.config.evaluation.final_episodes
    axes.set_title(
        f"Return after {comparison.config.steps:,} agent steps, {episodes} evaluation episodes a seed\n"
        "line: interquartile mean · band: 95 % bootstrap interval over seeds · dots: seeds",
        loc="left",
        fontsize=9.5,
    )
    _plain(axes, "x")
    return _png(figure)


def curves_figure(comparison: Comparison, summaries: list[RowSummary]) -> bytes:
    """Draw the learning curve of every row with a band of 95 % intervals over seeds; return PNG."""
    colours = row_colours(summaries)
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    limit = _limit(summaries)
    for one in summaries:
        colour = colours[one.row.key]
        if one.row.player and one.iqm is not None:
            where = f"{one.iqm:.1f}, above the axis" if limit is not None and one.iqm > limit else "does not learn"
            axes.axhline(one.iqm, color=colour, linestyle=_DASHES[one.row.player], linewidth=1.4, label=f"{one.label} ({where})")
        curve = one.curve()
        if not curve:
            continue
        steps = [step for step, _ in curve]
        bands = [interquartile_interval([np.array(scores)]) for _, scores in curve]
        middles = [interquartile_mean([np.array(scores)]) for _, scores in curve]
        axes.fill_between(steps, [low for low, _ in bands], [high for _, high in bands], color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, middles, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=f"{one.label} ({_seeds(len(one.scores))})")
    axes.set_xlabel(f"agent steps of training (each {comparison.config.environment.frame_skip} game ticks)")
    axes.set_ylabel("evaluation return" + _unit(comparison))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    axes.set_xlim(left=0)
    axes.set_ylim(_start(summaries), limit)
    evaluation = comparison.config.evaluation
    axes.set_title(
        f"Learning curves: interquartile mean over seeds, band 95 % bootstrap interval\n"
        f"{evaluation.episodes} evaluation episodes a point and seed, {evaluation.final_episodes} at the last",
        loc="left",
        fontsize=9.5,
    )
    axes.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _plain(axes, "both")
    return _png(figure)


def _limit(summaries: list[RowSummary]) -> float | None:
    """Return where the axis ends when a player that does not learn would squeeze the agents into a corner, else None."""
    reached = [score for one in summaries if one.row.player is None for score in one.scores]
    reached += [score for one in summaries if one.row.player is None for _, scores in one.curve() for score in scores]
    highest = max(reached, default=0.0)
    squeezed = any(one.row.player and one.iqm is not None and one.iqm > 1.8 * highest for one in summaries)
    return 1.15 * highest if squeezed and highest > 0 else None


def _start(summaries: list[RowSummary]) -> float | None:
    """Return where the axis of returns begins: just below zero where no return is negative, else None."""
    scores = [score for one in summaries for score in one.scores]
    highest = max((score for one in summaries if one.row.player is None for score in one.scores), default=0.0)
    return -0.03 * highest if highest > 0 and min(scores) >= 0 else None


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _unit(comparison: Comparison) -> str:
    return " (logs)" if "Treechop" in comparison.config.environment.name else ""


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
