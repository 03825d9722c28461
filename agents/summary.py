"""What the results of a comparison come to: a line a row, and plain sentences on what can be concluded."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.comparison import Comparison, Row
from agents.statistics import (
    FEW_SEEDS,
    improvement_interval,
    interquartile_interval,
    interquartile_mean,
    overlap,
    probability_of_improvement,
)


@dataclass
class RowSummary:
    """A row's results over its seeds."""

    row: Row
    scores: list[float]
    """A finished seed's mean return over the final evaluation episodes."""
    results: list[dict[str, Any]]
    failures: list[str]
    """What kept a seed from a result."""
    iqm: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.scores)) if self.scores else None

    @property
    def seconds(self) -> float | None:
        times = [result["seconds"] for result in self.results if "seconds" in result]
        return float(np.mean(times)) if times else None

    def about(self, key: str) -> Any:
        """Return what the first result says of `key`."""
        return self.results[0].get(key) if self.results else None

    def curve(self) -> list[tuple[int, list[float]]]:
        """Return the learning curve: steps, and each seed's mean return there, where all finished seeds were evaluated."""
        points: dict[int, list[float]] = {}
        for result in self.results:
            for point in result.get("curve", []):
                points.setdefault(point["step"], []).append(float(np.mean(point["returns"])))
        return [(step, returns) for step, returns in sorted(points.items()) if len(returns) == len(self.results)]


def summarise(comparison: Comparison) -> list[RowSummary]:
    """Read the results of every row."""
    return [_summary(comparison, row) for row in comparison.rows]


def _summary(comparison: Comparison, row: Row) -> RowSummary:
    results, failures = [], []
    for cell in comparison.cells:
        if cell.row is row:
            result = cell.result(comparison.config.steps)
            if result is None:
                failures.append(f"{cell.key}: {cell.failure() or 'not run'}")
            else:
                results.append(result)
    scores = [result["final_return"] for result in results]
    if not scores:
        return RowSummary(row, scores, results, failures)
    return RowSummary(row, scores, results, failures, interquartile_mean([np.array(scores)]), interquartile_interval([np.array(scores)]))


def improvements(summaries: list[RowSummary]) -> list[dict[str, Any]]:
    """Return, for every encoder against every other row, the probability that one of its agents scores higher."""
    found = []
    for ours in summaries:
        for theirs in summaries:
            if ours is theirs or ours.row.kind != "encoder" or not ours.scores or not theirs.scores:
                continue
            a, b = [np.array(ours.scores)], [np.array(theirs.scores)]
            chance, interval = probability_of_improvement(a, b), improvement_interval(a, b)
            found.append({"row": ours.label, "over": theirs.label, "probability": chance, "interval": interval})
    return found


def conclusions(comparison: Comparison, summaries: list[RowSummary]) -> list[str]:
    """Say plainly what the intervals allow to conclude, and what they do not."""
    sentences = [_against_others(ours, summaries) for ours in summaries if ours.row.kind == "encoder" and ours.interval]
    config = comparison.config
    agents = [one for one in summaries if one.row.kind != "player"]
    fewest = min((len(one.scores) for one in agents), default=0)
    if fewest < FEW_SEEDS:
        sentences.append(
            f"Warning: {fewest} finished {'seed' if fewest == 1 else 'seeds'} in the smallest row. Intervals from fewer than "
            f"{FEW_SEEDS} seeds are too narrow to trust: read this as a check that everything works, not as evidence."
        )
    failed = sum(len(one.failures) for one in summaries)
    if failed:
        listed = "run has no result and is" if failed == 1 else "runs have no result and are"
        sentences.append(f"{failed} {listed} listed as failed.")
    sentences.append(
        f"All agents had {config.steps:,} steps of {config.environment.frame_skip} game ticks; what they would come to with more, "
        "this does not show. Intervals are over agent seeds, "
        f"on the same {config.evaluation.final_episodes} evaluation worlds for every row."
    )
    return sentences


def _against_others(ours: RowSummary, summaries: list[RowSummary]) -> str:
    assert ours.interval is not None
    assert ours.iqm is not None
    above: list[str] = []
    below: list[str] = []
    open_: list[str] = []
    for theirs in summaries:
        if theirs is ours or theirs.interval is None or theirs.iqm is None:
            continue
        group = open_ if overlap(ours.interval, theirs.interval) else above if ours.iqm > theirs.iqm else below
        group.append(theirs.label)
    parts = []
    if above:
        parts.append(f"scores higher than {_listed(above)}")
    if below:
        parts.append(f"scores lower than {_listed(below)}")
    if open_:
        parts.append(f"overlaps with {_listed(open_)}, against which nothing can be concluded")
    return f"{ours.label} {'; it '.join(parts)}." if parts else f"{ours.label} has no row to be compared with."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def to_json(comparison: Comparison, summaries: list[RowSummary], about: dict[str, Any]) -> dict[str, Any]:
    """Return everything a comparison found, as `comparison.json` holds it."""
    return {
        **about,
        "rows": [
            {
                "row": one.label,
                "key": one.row.key,
                "kind": one.row.kind,
                "seeds": len(one.scores),
                "iqm": one.iqm,
                "interval": one.interval,
                "mean": one.mean,
                "scores": one.scores,
                "returns": [result["final_returns"] for result in one.results],
                "curve": [{"step": step, "scores": scores} for step, scores in one.curve()],
                "seconds": one.seconds,
                "encoder": one.about("encoder"),
                "encoder_parameters": one.about("encoder_parameters"),
                "policy_parameters": one.about("policy_parameters"),
                "failures": one.failures,
            }
            for one in summaries
        ],
        "improvements": improvements(summaries),
        "conclusions": conclusions(comparison, summaries),
    }


def to_csv(summaries: list[RowSummary]) -> str:
    """Return one line a finished run: row, kind, seed, score."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "kind", "seed", "steps", "evaluation_episodes", "mean_return", "seconds"])
    for one in summaries:
        for result in one.results:
            episodes = len(result["final_returns"])
            line = [one.label, one.row.kind, result["seed"], result["steps"], episodes, result["final_return"], result.get("seconds", "")]
            writer.writerow(line)
    return buffer.getvalue()
