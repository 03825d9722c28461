"""How much of what the answers are worth a row makes up: its share of the gap from an untrained encoder to an oracle."""

from collections.abc import Sequence
from dataclasses import replace

from comparison.report.estimates import Gap, RowSummary
from comparison.report.statistics import Estimate, Statistic, gap_between, share_of_gap

BOTTOM, TOP = "untrained", "oracle"


def with_gaps(rows: Sequence[RowSummary], statistic: Statistic) -> tuple[list[RowSummary], list[Gap]]:
    """Return the rows with their shares of the gap, and the gaps: one an algorithm that has one of the two rows or both."""
    ends = {one.row.algorithm: _ends(rows, one.row.algorithm) for one in rows if one.row.control in (BOTTOM, TOP)}
    gaps = {algorithm: _gap(algorithm, bottom, top, statistic) for algorithm, (bottom, top) in ends.items()}
    found = [one if one.row.player else _with_share(one, gaps.get(one.row.algorithm), ends, statistic) for one in rows]
    return found, list(gaps.values())


def _ends(rows: Sequence[RowSummary], algorithm: str | None) -> tuple[RowSummary | None, RowSummary | None]:
    """Return an algorithm's untrained encoder, the first where joined comparisons have several, and its oracle."""
    of_it = [one for one in rows if one.row.algorithm == algorithm]
    bottom, top = (next((one for one in of_it if one.row.control == control), None) for control in (BOTTOM, TOP))
    return bottom, top


def _gap(algorithm: str | None, bottom: RowSummary | None, top: RowSummary | None, statistic: Statistic) -> Gap:
    named = Gap(bottom.label if bottom else BOTTOM, top.label if top else TOP, algorithm)
    if bottom is None or top is None:
        control = BOTTOM if bottom is None else TOP
        return replace(named, unknown=f"there is no row '{control}': add it with --controls")
    for one in (bottom, top):
        if one.iqm is None:
            return replace(named, unknown=f"{one.label} has no finished run")
    found = gap_between(bottom.scores, top.scores, statistic)
    unknown = "" if found.low > 0 else f"it may be none, {found.value:.2f} with an interval of {found.low:.2f} to {found.high:.2f}"
    return replace(named, found=found, unknown=unknown)


def _with_share(
    one: RowSummary, gap: Gap | None, ends: dict[str | None, tuple[RowSummary | None, RowSummary | None]], statistic: Statistic
) -> RowSummary:
    if one.iqm is None or gap is None or gap.unknown:
        return one
    bottom, top = ends[one.row.algorithm]
    assert bottom
    assert top
    # by definition, whatever their runs
    fixed = {id(bottom): Estimate(0.0, 0.0, 0.0), id(top): Estimate(1.0, 1.0, 1.0)}
    return replace(one, gap_closed=fixed.get(id(one)) or share_of_gap(one.scores, bottom.scores, top.scores, statistic))
