"""What a report estimates: of a row, of a pair of rows, of a task or all tasks together."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from comparison.report.statistics import Estimate
from comparison.results import RowResults, TaskResults


@dataclass(frozen=True)
class RowSummary:
    """A row's estimates; None where no run finished, or where the number needs a target that is not known."""

    row: RowResults
    """Over several tasks: of the first, with the runs of all."""
    scores: list[np.ndarray]
    """By task, one a finished seed: returns, or normalised over several tasks."""
    seeds: list[list[int]]
    failures: list[str] = field(default_factory=list)
    iqm: Estimate | None = None
    median: Estimate | None = None
    mean: Estimate | None = None
    optimality_gap: Estimate | None = None
    """Of normalised scores: the mean shortfall from the target, 0 when every run reaches it."""
    area: Estimate | None = None
    """Interquartile mean of the area under the learning curve, as a mean height in the unit of the scores."""
    normalised_area: Estimate | None = None
    gap_closed: Estimate | None = None
    """Share of the gap from an untrained encoder to an oracle, 1 for the oracle; None where the gap is not known."""
    curve: list[tuple[int, Estimate]] = field(default_factory=list)
    seconds: float | None = None
    """Mean time of training; over several tasks, the mean of the tasks' means."""
    timed_curve: list[tuple[float, Estimate]] = field(default_factory=list)
    """Against seconds of training, on the stretch that all seeds share; [] where a seed does not say when it was evaluated."""

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def fewest_seeds(self) -> int:
        """Finished seeds, on the task with the fewest."""
        return min((len(task) for task in self.scores), default=0)

    @property
    def all_scores(self) -> list[float]:
        return [float(score) for task in self.scores for score in task]


@dataclass(frozen=True)
class Pair:
    """A number about one row against another."""

    row: str
    over: str
    found: Estimate
    pairs: int = 0
    """Seeds that both have, for paired differences."""


@dataclass(frozen=True)
class Gap:
    """The gap between two rows of one algorithm, the untrained encoder's and the oracle's."""

    bottom: str
    top: str
    algorithm: str | None
    found: Estimate | None = None
    """The oracle's score less the untrained encoder's."""
    unknown: str = ""
    """Why nothing can be said of shares of it; empty where something can."""


@dataclass(frozen=True)
class Correlation:
    """How far the rows that a probe reads more from are also those whose agents score higher."""

    probe: str
    """What is read."""
    kind: Literal["linear", "mlp"]
    algorithm: str | None
    rows: int
    """That have both."""
    spearman: float | None
    """Rank correlation; None where one of both is the same in all rows."""


@dataclass(frozen=True)
class Summary:
    """One task, or all tasks together."""

    name: str
    tasks: list[TaskResults]
    rows: list[RowSummary]
    improvements: list[Pair]
    """Every row that is no player against every other row."""
    differences: list[Pair]
    """Every encoder against every row below it that is no player, seed by seed."""
    thresholds: np.ndarray
    profiles: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    """By row's key: share of runs above each threshold, low, high."""
    left_out: list[str] = field(default_factory=list)
    """Rows that are not on every task, and tasks without a target."""
    gaps: list[Gap] = field(default_factory=list)
    """One an algorithm that has an untrained encoder's row or an oracle's."""
    correlations: list[Correlation] = field(default_factory=list)
    """Of probes with the interquartile mean, on one task."""

    @property
    def normalised(self) -> bool:
        return len(self.tasks) > 1
