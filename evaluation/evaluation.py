"""One evaluation of an encoder: what its judges share, computed once and only if one asks, and where they leave what they found.

Shapes: N frames, B clips, T frames of a clip, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

import frames
from encoders import EncoderArtifact
from encoders.encoder import EstimatesMemory, to_float
from evaluation.held_out import HeldOut, TrainingFrames, mean_frame, measure
from evaluation.histogram import Histogram
from foundation.errors import UserError, shown
from foundation.pictures import write_png
from foundation.progress import Advance, PlainConsole, cells, progress_bar, say, tell_result

_BATCH_FRAMES = 400
_CUDA_BYTES = 4 * 2**30
_CHUNK = 2048
_CHUNK_AS_FLOATS = 64


@dataclass
class Evaluation:
    """Given to every judge as `out`."""

    artifact: EncoderArtifact
    store: frames.FrameStore
    split: str
    """Recordings of `store` to judge on: held out, unless the user says otherwise."""
    training: frames.FrameStore
    """The store that the encoder was trained on, or where it is gone `store`; compare with its split "train"."""
    pictures: Path
    """The folder of the run's pictures."""
    device: torch.device
    limit: int | None = None
    """Judge reconstructions on this many frames rather than all."""
    files: list[Path] = field(default_factory=list)
    """Pictures written so far."""
    verdicts: list[str] = field(default_factory=list)

    @cached_property
    def training_frames(self) -> TrainingFrames:
        """The mean of all training frames; for models of discrete values the histogram of theirs too."""
        bits = self.artifact.model.discrete_bits
        histogram = None if bits is None else Histogram(self.store.frame_shape[2], bits)
        training = self.chunks(self.training, self.training.indices("train"))
        return TrainingFrames(mean_frame(training if histogram is None else histogram.counting(training)), histogram)

    @cached_property
    def held_out(self) -> HeldOut:
        """One pass over the split: reconstructions, the loss's terms, the KL of every unit; for models that generate."""
        training = self.training_frames
        length, stride = self.artifact.model.clip_length, self.stride(self.store)
        total = len(frames.side_by_side(self.store, self.split, length, stride))
        total = total if self.limit is None else min(total, max(1, self.limit // length))
        with self.progress(f"evaluating on {self.split}", total * length, "frames") as advance:
            return measure(self.artifact, _counted(self.batches(total), length, advance), training, self.device)

    def stride(self, store: frames.FrameStore) -> frames.Strides:
        """Return how many recorded frames of each recording lie between two frames of a clip, at the rate the encoder was trained at."""
        return store.nearest_strides(self.artifact.info.frames_per_second)

    def batches(self, clips: int) -> Iterator[frames.FrameBatch]:
        """Return at most `clips` clips of the split, evenly spread, in batches: uint8 (B, T, H, W, C) as the model was trained on."""
        length = self.artifact.model.clip_length
        size = max(1, _BATCH_FRAMES // length)
        if self.device.type == "cuda" and isinstance(self.artifact.model, EstimatesMemory):
            # a GPU has no swap: what refines slots by gradients holds gigabytes a hundred frames
            size = min(size, max(1, _CUDA_BYTES // self.artifact.model.training_bytes(1, "cuda")))
        return frames.in_order(self.store, self.split, size, length, clips, stride=self.stride(self.store))

    def spread(self, count: int) -> np.ndarray:
        """Return at most `count` frames of the split, evenly spread: uint8 (N, H, W, C)."""
        return self.store.frames(self.spread_indices(count))

    def spread_indices(self, count: int) -> np.ndarray:
        """Return the global indices of at most `count` frames of the split, evenly spread: int64 (N,); raise `UserError` without any."""
        indices = _spread(self.store, self.split, count)
        if not len(indices):
            raise UserError(f"{self.store.path}: there are no frames in split '{self.split}'; name another with --split")
        return indices

    def chunks(self, store: frames.FrameStore, indices: np.ndarray, size: int = _CHUNK) -> Iterator[np.ndarray]:
        """Read frames uint8 (N, H, W, C), `size` at a time."""
        return (store.frames(indices[start : start + size]) for start in range(0, len(indices), size))

    def float_chunks(self, store: frames.FrameStore, split: str, count: int) -> Iterator[Tensor]:
        """Read at most `count` frames of a split, evenly spread: float (N, C, H, W) in [0, 1], some at a time."""
        indices = _spread(store, split, count)
        return (to_float(torch.from_numpy(chunk)) for chunk in self.chunks(store, indices, _CHUNK_AS_FLOATS))

    def picture(self, name: str, picture: np.ndarray) -> None:
        """Write a picture uint8 (H, W, 3) as `name`.png beside the others of the run."""
        write_png(self.pictures / f"{name}.png", picture)
        self.wrote(self.pictures / f"{name}.png")

    def wrote(self, *paths: Path) -> None:
        """Note files that a judge has written into `pictures` by itself."""
        self.files += paths

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; the first column names the rows, the others hold numbers."""
        table = Table()
        for number, column in enumerate(columns):
            table.add_column(shown(column), justify="right" if number else "left")
        for row in rows:
            table.add_row(*cells(row))
        # a title of the table itself would be broken into lines as narrow as the table
        tell_result(title, style="bold")
        PlainConsole().print(table)

    def verdict(self, text: str) -> None:
        """Print what was found in words, below everything else when all judges are done."""
        self.verdicts.append(text)

    def say(self, text: str) -> None:
        """Print a line at once, for what a user should know of how it is judged."""
        say(text)

    def progress(self, description: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Show a progress bar: `with out.progress("sampling", 100, "frames") as advance: ... advance(10)`."""
        return progress_bar(description, total, unit)


def _spread(store: frames.FrameStore, split: str, count: int) -> np.ndarray:
    indices = store.indices(split)
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)]


def _counted(batches: Iterator[frames.FrameBatch], length: int, advance: Advance) -> Iterator[frames.FrameBatch]:
    for batch in batches:
        yield batch
        advance(len(batch.frames) * length)
