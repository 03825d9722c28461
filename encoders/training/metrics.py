"""The record of a run: `metrics.jsonl` and TensorBoard, one record a step."""

import json
import os
from pathlib import Path

import numpy as np

from foundation.board import open_board
from foundation.files import own_file

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Append one JSON object a step, and the same numbers to TensorBoard.

    `position` (bytes) goes into the checkpoint. A log opened at a checkpoint's position drops what was written after it, so that
    a resumed run's record has no step twice.
    """

    def __init__(self, folder: Path, step: int, position: int) -> None:
        self._file = open(own_file(folder / METRICS_FILE), "ab")  # noqa: SIM115
        self._file.truncate(min(position, os.path.getsize(folder / METRICS_FILE)))
        self._tensorboard = open_board(folder / "tensorboard", step + 1)

    @property
    def position(self) -> int:
        """The length of `metrics.jsonl`, with all records on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record `values` by name ("train/loss") for a step."""
        rounded = {name: value if isinstance(value, int) else float(f"{value:.7g}") for name, value in values.items()}
        finite = {name: value if np.isfinite(value) else None for name, value in rounded.items()}
        self._file.write(json.dumps({"step": step, **finite}).encode() + b"\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Add a uint8 picture (H, W, 3) to TensorBoard."""
        self._tensorboard.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory and close both files."""
        self._file.close()
        self._tensorboard.close()
