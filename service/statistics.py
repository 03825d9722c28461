"""What a model has answered and how long it took: counted once, shown under Triton's names."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Duration:
    """How often, and for how many nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float, count: int = 1) -> None:
        self.count += count
        self.ns += int(ns)

    def shown(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class BatchStatistics:
    """The three parts of the calls with one number of rows."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass
class ModelStatistics:
    """Counts of one model since the service started, over all weights it has had."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    failures: Counter[str] = field(default_factory=Counter)
    """By Triton's reasons."""
    queue: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    """By rows a call of the encoder."""
    last_inference: int = 0
    """Milliseconds since 1970."""
    reloads: int = 0
    failed_reloads: int = 0

    def called(self, rows: int, begun: int, encoding: int, encoded: int, ended: int) -> None:
        """Count a call of the encoder; the times are `time.perf_counter_ns`."""
        batch = self.batches.setdefault(rows, BatchStatistics())
        batch.compute_input.add(encoding - begun)
        batch.compute_infer.add(encoded - encoding)
        batch.compute_output.add(ended - encoded)
        self.last_inference = time.time_ns() // 1_000_000

    def failed(self, ns: float, status: int) -> None:
        """Count a request that was refused or went wrong."""
        self.fail.add(ns)
        self.failures["REJECTED" if status == 503 else "CANCELED" if status == 504 else "BACKEND" if status == 500 else "OTHER"] += 1

    @property
    def rows(self) -> int:
        """Frames that were encoded."""
        return sum(rows * batch.compute_infer.count for rows, batch in self.batches.items())

    @property
    def calls(self) -> int:
        return sum(batch.compute_infer.count for batch in self.batches.values())

    def total(self, part: str) -> Duration:
        """Return the time of one part over calls with any number of rows."""
        parts = [getattr(batch, part) for batch in self.batches.values()]
        return Duration(sum(one.count for one in parts), sum(one.ns for one in parts))

    def shown(self, name: str, version: str) -> dict[str, Any]:
        """Return an entry of Triton's `model_stats`."""
        parts = ("compute_input", "compute_infer", "compute_output")
        durations = {"success": self.success, "fail": self.fail, "queue": self.queue, **{part: self.total(part) for part in parts}}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference,
            "inference_count": self.rows,
            "execution_count": self.calls,
            "inference_stats": {name: duration.shown() for name, duration in durations.items()},
            "batch_stats": [
                {"batch_size": rows, **{part: getattr(self.batches[rows], part).shown() for part in parts}} for rows in sorted(self.batches)
            ],
        }


@dataclass
class Series:
    """One metric: its name, what it counts, its kind, and (labels, value) for each of its lines."""

    name: str
    help: str
    kind: str
    values: list[tuple[dict[str, str], float]]


def model_series(models: Iterable[tuple[str, str, ModelStatistics, int]]) -> list[Series]:
    """Return the metrics of models, each given with its name, version, counts and waiting requests."""
    found = list(models)

    def series(name: str, text: str, value: Any, kind: str = "counter") -> Series:
        return Series(name, text, kind, [({"model": m, "version": v}, value(counts)) for m, v, counts, _ in found])

    failures = [
        ({"model": m, "version": v, "reason": reason}, float(counts.failures[reason]))
        for m, v, counts, _ in found
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    ]
    waiting = [({"model": m, "version": v}, float(count)) for m, v, _, count in found]
    return [
        series("nv_inference_request_success", "Requests answered", lambda c: c.success.count),
        Series("nv_inference_request_failure", "Requests refused or failed", "counter", failures),
        series("nv_inference_count", "Frames encoded", lambda c: c.rows),
        series("nv_inference_exec_count", "Calls of the encoder", lambda c: c.calls),
        series("nv_inference_request_duration_us", "Time of answered requests", lambda c: c.success.ns // 1000),
        series("nv_inference_queue_duration_us", "Time that requests waited", lambda c: c.queue.ns // 1000),
        *(
            series(f"nv_inference_{part}_duration_us", f"Time of calls: {part}", lambda c, part=part: c.total(part).ns // 1000)
            for part in ("compute_input", "compute_infer", "compute_output")
        ),
        Series("nv_inference_pending_request_count", "Requests waiting", "gauge", waiting),
        series("minerl_perception_reloads", "Times that new weights were loaded", lambda c: c.reloads),
        series("minerl_perception_failed_reloads", "Times that new weights could not be loaded", lambda c: c.failed_reloads),
    ]


def exposed(series: Iterable[Series]) -> str:
    """Return metrics in Prometheus's text format."""
    lines = []
    for one in series:
        lines += [f"# HELP {one.name} {one.help}", f"# TYPE {one.name} {one.kind}"]
        for labels, value in one.values:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(f"{one.name}{{{inside}}} {value}" if inside else f"{one.name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
