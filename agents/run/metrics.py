"""What a run measured: JSON lines and TensorBoard, continued on resume without a step twice."""

import json
import os
from pathlib import Path
from typing import Any

from foundation.board import open_board
from foundation.documents import read_lines
from foundation.errors import UserError
from foundation.files import own_file


def latest(folder: Path, *names: str) -> dict[str, float]:
    """Return the last value of each metric that a run, perhaps one under way, has written."""
    found: dict[str, float] = {}
    for values in read_lines(folder / "metrics.jsonl", backwards=True):
        found |= {name: values[name] for name in names if name not in found and isinstance(values.get(name), (int, float))}
        if len(found) == len(names):
            break
    return found


class MetricsFile:
    """Appends to `metrics.jsonl` and TensorBoard from a checkpoint's position; what lies behind it is cut off."""

    def __init__(self, folder: Path, size: int, steps: int) -> None:
        self.path = own_file(folder / "metrics.jsonl")
        self.path.touch()
        if self.path.stat().st_size < size:
            raise UserError(f"{self.path}: shorter than its checkpoint says; choose another --run, or delete resume.pt to start over")
        self._file = self.path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)
        # readers drop what an interrupted run logged from `steps` on; what it rightly logged at `steps` is said again
        self._board = open_board(folder / "tensorboard", steps)
        for line in self._lines():
            if line["step"] == steps:
                self._show(steps, line)

    def write(self, steps: int, numbers: dict[str, float], more: dict[str, Any] | None = None) -> None:
        """Write a line of numbers at `steps`; `more` goes into the line only."""
        self._file.write(json.dumps({"step": steps, **numbers, **(more or {})}).encode() + b"\n")
        self._file.flush()
        self._show(steps, numbers)

    def flush(self) -> int:
        """Return the size in bytes that a checkpoint has to remember."""
        self._file.flush()
        # on the disk before the checkpoint that counts on it
        os.fsync(self._file.fileno())
        self._board.flush()
        return self._file.tell()

    def curve(self) -> list[dict[str, Any]]:
        """Return the learning curve so far: steps, seconds of training, and evaluation returns."""
        points, seconds = [], None
        for line in self._lines():
            # a rollout's line has them, which comes before the evaluation
            seconds = line.get("seconds", seconds)
            if "evaluation/returns" in line:
                points.append({"step": line["step"], "seconds": seconds, "returns": line["evaluation/returns"]})
        return points

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._board.close()

    def _lines(self) -> list[dict[str, Any]]:
        return [line for line in read_lines(self.path) if "step" in line]

    def _show(self, steps: int, numbers: dict[str, Any]) -> None:
        for name, value in numbers.items():
            if name != "step" and not isinstance(value, list):
                self._board.add_scalar(name, value, steps)
