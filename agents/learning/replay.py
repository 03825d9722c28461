"""A replay buffer on disk: plain arrays in segments, each step written once however often the run is saved.

The buffer is a ring of rows, one row a step of all environments. Row number n, counted from the run's beginning, lies at n modulo
the ring's length. A segment is an npz file of consecutive rows; a checkpoint names the segments that belong to it. Segments go
only when a later checkpoint, already on the disk, does without them, so that a kill or a full disk leaves the older one whole.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from foundation.errors import UserError
from foundation.files import atomic_write, remove_half_written

_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Segment:
    """Rows `first` to `last` - 1 since the run's beginning."""

    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.first:012d}-{self.last:012d}.npz"


def replay_buffer(algorithm: BaseAlgorithm) -> ReplayBuffer | None:
    """Return the replay buffer of an algorithm that has one."""
    return getattr(algorithm, "replay_buffer", None)


def rows_added(algorithm: BaseAlgorithm) -> int:
    """Return how many rows the buffer was ever given: one a step of all environments."""
    return algorithm.num_timesteps // algorithm.n_envs


def write_segments(folder: Path, buffer: ReplayBuffer, added: int, written: list[Segment]) -> list[Segment]:
    """Write the rows that no segment of `written` holds, and return the segments that together hold the whole buffer.

    Raises `UserError` where the disk is full; the segments of earlier checkpoints are left as they were.
    """
    length = buffer.buffer_size
    oldest = max(0, added - length)
    start = max(oldest, written[-1].last if written else 0)
    new = []
    while start < added:
        # up to the ring's end, so that a segment is one slice
        last = min(added, (start // length + 1) * length)
        segment = Segment(start, last)
        with atomic_write(folder / segment.name) as file:
            np.savez(file, allow_pickle=False, **{name: array[_place(segment, length)] for name, array in _arrays(buffer).items()})
        new.append(segment)
        start = last
    return [one for one in written if one.last > oldest] + new


def remove_others(folder: Path, kept: list[Segment]) -> None:
    """Remove the segments that the checkpoint just written does without, and those that a killed process has left half written."""
    remove_half_written(folder)
    names = {segment.name for segment in kept}
    for path in folder.glob("*.npz"):
        if path.name not in names:
            path.unlink()


def read_segments(folder: Path, buffer: ReplayBuffer, added: int, segments: list[Segment]) -> None:
    """Fill the buffer with what `write_segments` wrote; raise `UserError` where a segment is missing or damaged."""
    arrays = _arrays(buffer)
    for segment in segments:
        path = folder / segment.name
        try:
            with np.load(path, allow_pickle=False) as content:
                if set(content.files) != set(arrays):
                    raise ValueError("it holds other arrays")
                for name, array in arrays.items():
                    array[_place(segment, buffer.buffer_size)] = content[name]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: steps of the replay buffer are missing or damaged ({error}); choose another --run, or delete "
                f"{folder.parent / 'resume.pt'} to start over"
            ) from error
    buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size


def cut_episodes(buffer: ReplayBuffer) -> None:
    """End the episodes of the last row as truncated: others follow, and no target of several steps may reach into them."""
    last = (buffer.pos - 1) % buffer.buffer_size
    buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1 - buffer.dones[last])


def _place(segment: Segment, length: int) -> slice:
    first = segment.first % length
    return slice(first, first + segment.last - segment.first)


def _arrays(buffer: Any) -> dict[str, np.ndarray]:
    """Return the buffer's arrays, those of a dictionary observation by name."""
    arrays = {}
    for name in _ARRAYS:
        value = getattr(buffer, name)
        parts = {f"{name}/{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        arrays.update(parts)
    return arrays
