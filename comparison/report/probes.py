"""What can be read from each encoder's latents, and whether more of it goes with higher returns."""

from collections.abc import Sequence
from typing import Literal

from comparison.encoder_facts import Probe
from comparison.report.estimates import Correlation, RowSummary, Summary
from comparison.report.statistics import rank_correlation

LEAST_ROWS = 4
"""Fewer rows have no rank correlation worth a number."""
TITLE = "What can be read from the latents: linear probe / one hidden layer"
KINDS: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")


def probed(rows: Sequence[RowSummary]) -> dict[str, str]:
    """Return what the rows' encoders were probed for, each with its metric, in the order in which it was measured."""
    return {target: probe.metric for one in rows for target, probe in probes_of(one).items()}


def probes_of(one: RowSummary) -> dict[str, Probe]:
    """Return a row's probes, by what they read; {} for a row without."""
    return one.row.encoder.probes if one.row.encoder else {}


def probe_columns(one: RowSummary, targets: Sequence[str]) -> dict[str, float | None]:
    """Return a row's scores by column name, the same columns for every row."""
    found = probes_of(one)
    return {f"probe_{target}_{kind}": getattr(found.get(target), kind, None) for target in targets for kind in KINDS}


def probe_lines(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return a table's headings, and a line a probe: its metric, its rank correlations with the return, and each row's two scores."""
    rows = [one for one in summary.rows if probes_of(one)]
    algorithms = list(dict.fromkeys(one.row.algorithm for one in rows))
    with_return = [f"rank correlation, {name}" if len(algorithms) > 1 else "rank correlation" for name in algorithms]
    lines = []
    for target, metric in probed(rows).items():
        ranks = [
            _correlation_cell([one for one in summary.correlations if (one.probe, one.algorithm) == (target, name)]) for name in algorithms
        ]
        found = [probes_of(one).get(target) for one in rows]
        scores = ["–" if probe is None else f"{_number(probe.linear)} / {_number(probe.mlp)}" for probe in found]
        lines.append([target.replace("_", " "), metric, *ranks, *scores])
    return ["probe", "score", *with_return, *(one.label for one in rows)], lines


def _correlation_cell(found: Sequence[Correlation]) -> str:
    if not found:
        return "–"
    return f"{' / '.join(_number(one.spearman) for one in found)} ({found[0].rows} rows)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:z.2f}"


def correlations(rows: Sequence[RowSummary]) -> list[Correlation]:
    """Return the rank correlation of every probe with the interquartile mean, over the rows of an algorithm that have both."""
    algorithms = dict.fromkeys(one.row.algorithm for one in rows if probes_of(one))
    found = [_correlation(rows, target, kind, algorithm) for algorithm in algorithms for target in probed(rows) for kind in KINDS]
    return [one for one in found if one is not None]


def _correlation(rows: Sequence[RowSummary], target: str, kind: Literal["linear", "mlp"], algorithm: str | None) -> Correlation | None:
    pairs = [
        (score, one.iqm.value)
        for one in rows
        if one.iqm and one.row.algorithm == algorithm and (score := getattr(probes_of(one).get(target), kind, None)) is not None
    ]
    if len(pairs) < LEAST_ROWS:
        return None
    scores, returns = zip(*pairs, strict=True)
    return Correlation(target, kind, algorithm, len(pairs), rank_correlation(scores, returns))
