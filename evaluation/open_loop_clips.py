"""Which clips open-loop prediction is judged on, and which training clips its baselines are fitted on."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import frames
from evaluation.evaluation import Evaluation
from evaluation.open_loop import Clips
from foundation.errors import UserError
from foundation.progress import Advance

_PREDICTED_TOGETHER, _FRAMES_TOGETHER = 4, 2000
"""Clips at most, and fewer of long ones: what they take in memory stays the same."""


class _Source(NamedTuple):
    """Clips of a store that begin at `starts`, their frames `stride` apart."""

    store: frames.FrameStore
    starts: np.ndarray
    length: int
    stride: frames.Strides


@dataclass(frozen=True)
class Planned:
    """`count` clips to predict, the training clips that baselines are fitted on, and what a user should know of the choice."""

    count: int
    notes: list[str]
    _judged: _Source
    _fitted: _Source

    @property
    def length(self) -> int:
        """Frames of a clip to predict, its context included."""
        return self._judged.length

    def held_out(self, advance: Advance | None = None) -> Iterator[Clips]:
        """Read the clips to predict, anew at each call."""
        return _clips_of(self._judged, advance)

    def training(self) -> Iterator[Clips]:
        """Read the training clips."""
        return _clips_of(self._fitted)


def plan(out: Evaluation, context: int, predict: int, clips: int) -> Planned:
    """Choose at most `clips` clips to predict, spread over the split; raise `UserError` where there are none, or none to fit on."""
    store, training = out.store, out.training
    stride, fitting = out.stride(store), out.stride(training)
    rate, trained_at = stride.rate, out.artifact.info.frames_per_second
    told = store.rates_line(out.split, stride)
    notes = [] if told is None else [told]
    if abs(rate - trained_at) > 1e-6:
        notes.append(f"{store.path}: gives {rate:g} frames/s, the encoder was trained at {trained_at:g}; judged at {rate:g}")
    length, more = predicted_length(store, out.split, stride, context, predict)
    starts = frames.side_by_side(store, out.split, length, stride)
    chosen = starts[np.linspace(0, len(starts) - 1, min(clips, len(starts))).round().astype(int)]
    reach, short = _fitted_length(training, fitting, context, length)
    fitted_on = frames.side_by_side(training, "train", reach, fitting)
    judged, fitted = _Source(store, chosen, length, stride), _Source(training, fitted_on, reach, fitting)
    return Planned(len(chosen), notes + more + short, judged, fitted)


def _fitted_length(training: frames.FrameStore, stride: frames.Strides, context: int, wanted: int) -> tuple[int, list[str]]:
    """Return how many frames the clips have that baselines are fitted on, and a note where training recordings are shorter than wanted."""
    longest = max(((episode.length - 1) // step + 1 for episode, step in training.strided("train", stride)), default=0)
    if longest <= context:
        raise UserError(f"{training.path}: no training recording is longer than the context of {context} frames; lower --open-loop.context")
    if longest >= wanted:
        return wanted, []
    ahead = longest - context
    return longest, [f"training recordings have {longest} frames at most: the blend is fitted {ahead} frames ahead, and stays so beyond"]


def predicted_length(store: frames.FrameStore, split: str, stride: frames.Strides, context: int, predict: int) -> tuple[int, list[str]]:
    """Return how many frames a clip has, context included, and notes on recordings that are too short for it.

    Where no recording is as long as was asked for, as many frames as half of the recordings have.
    """
    wanted = context + predict
    lengths = sorted(((episode.length - 1) // step + 1 for episode, step in store.strided(split, stride)), reverse=True)
    longer = [length for length in lengths if length > context]
    if not longer:
        raise UserError(
            f"{store.path}: no recording in '{split}' is longer than the context of {context} frames; lower --open-loop.context"
        )
    length, notes = wanted, []
    if longer[0] < wanted:
        length = longer[len(longer) // 2]
        notes.append(f"no recording in '{split}' has {wanted} frames, half of them have {length}: {length - context} are predicted")
    short = sum(one < length for one in lengths)
    if short:
        notes.append(f"{short} of {len(lengths)} recordings in '{split}' are shorter than {length} frames: nothing is predicted of them")
    return length, notes


def _clips_of(source: _Source, advance: Advance | None = None) -> Iterator[Clips]:
    """Read clips, a few of one recording at a time."""
    store, length, stride = source.store, source.length, source.stride
    for _, group in itertools.groupby(source.starts.tolist(), lambda start: store.episode_at(start).first):
        of_one = list(group)
        together = max(1, min(_PREDICTED_TOGETHER, _FRAMES_TOGETHER // length))
        for at in range(0, len(of_one), together):
            some = of_one[at : at + together]
            yield Clips(store.windows(some, length, stride), stride.rate, store.action_windows(some, length, stride))
            if advance is not None:
                advance(len(some))
