"""Held-out frames that a judge looks at one by one, and the recordings they come from, in two halves.

Shapes: N clips, T frames of a clip (1 for models without memory), M = N*T frames, H height, W width, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from encoders.encoder import Batch, Encoder
from encoders.training.validation import to_batch
from foundation.errors import UserError
from frames import Episode, FrameBatch, FrameStore, Strides

_BATCH_FRAMES = 256
_LONGEST_CLIP = 250


@dataclass(frozen=True)
class Halves:
    """Recordings in two halves, to learn from one and score on the other; `note` says in words where they are no halves of the split."""

    first: list[Episode]
    second: list[Episode]
    note: str | None = None


@dataclass(frozen=True)
class Sampled:
    """Frames of some recordings: the M frames of clips that begin at `starts` int64 (N,), as a model sees them."""

    store: FrameStore
    starts: np.ndarray
    length: int
    strides: Strides
    needs_actions: bool

    @property
    def indices(self) -> np.ndarray:
        """The frames' global indices, int64 (M,)."""
        return self.store.window_indices(self.starts, self.length, self.strides).reshape(-1)

    def batches(self, device: torch.device, frames: int = _BATCH_FRAMES) -> Iterator[Batch]:
        """Read the clips in order, at most about `frames` frames at a time: float (B, T, C, H, W) in [0, 1]."""
        size = max(1, frames // self.length)
        for begin in range(0, len(self.starts), size):
            starts = self.starts[begin : begin + size]
            actions = self.store.action_windows(starts, self.length, self.strides) if self.needs_actions else None
            yield to_batch(FrameBatch(self.store.windows(starts, self.length, self.strides), actions), device)


def sampled(store: FrameStore, episodes: Sequence[Episode], model: Encoder, strides: Strides, count: int) -> Sampled:
    """Choose about `count` frames of recordings, evenly spread; in clips of up to 250 frames for a model with memory, so that it fills.

    Raises `UserError` where no recording gives a clip at the model's rate.
    """
    numbers = {episode.first: number for number, episode in enumerate(store.episodes)}
    steps = [int(strides.of_episode[numbers[episode.first]]) for episode in episodes]
    length = _clip_length(episodes, steps) if model.initial_state(1) else 1
    ranges = [
        np.arange(episode.first, episode.first + episode.length - (length - 1) * step, length * step if length > 1 else 1)
        for episode, step in zip(episodes, steps, strict=True)
        if step or length == 1
    ]
    starts = np.concatenate([np.empty(0, np.int64), *ranges]).astype(np.int64)
    if not len(starts):
        raise UserError(f"{store.path}: no recording in this split has clips of {strides.rate:g} frames/s; name another with --split")
    wanted = max(1, count // length)
    if wanted < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, wanted).round().astype(int)]
    return Sampled(store, starts, length, strides, bool(model.action_size))


def halves(store: FrameStore, split: str) -> Halves:
    """Share the recordings of a split out by turns, those of a task and player alike.

    Where it has one recording, that is the second half, and the others of the store are the first. Raises `UserError` for a store of one.
    """
    held_out = sorted(store.of_split(split), key=lambda episode: (episode.task, episode.source, episode.name))
    if len(held_out) > 1:
        return Halves(held_out[::2], held_out[1::2])
    others = [episode for episode in store.episodes if episode.split != split]
    if not held_out:
        raise UserError(f"{store.path}: no recording is in split '{split}'; name another with --split")
    if not others:
        raise UserError(f"{store.path}: {lacks_recordings(store)}; add recordings with make_frames.py build --append")
    return Halves(others, held_out, f"split '{split}' has one recording: learned on the {len(others)} others of the store, scored on it")


def lacks_recordings(store: FrameStore) -> str | None:
    """Say that there are too few recordings for `halves`, or None."""
    count = len(store.episodes)
    return f"it takes two recordings, one to learn from and one to be scored on, and the store has {count}" if count < 2 else None


def _clip_length(episodes: Sequence[Episode], steps: Sequence[int]) -> int:
    """Return how many frames at their stride half of the recordings have, at most 250."""
    lengths = sorted((episode.length - 1) // step + 1 for episode, step in zip(episodes, steps, strict=True) if step)
    return min(_LONGEST_CLIP, lengths[len(lengths) // 2]) if lengths else 1
