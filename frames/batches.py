"""Batches for training, shuffled and endless, and for validation, in order."""

import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foundation.errors import UserError
from foundation.progress import say
from frames.labels import PICTURES, SIDED, Labels, state_names
from frames.rates import Strides, common_rate
from frames.sampling import Plan, Sampler, check_difference, checked_weights
from frames.store import FrameStore

_FREE_ARRAYS = 8
_LONGEST_SEQUENCE = 250

Targets = Mapping[str, Mapping[str, Any]]
"""Labels that are asked for beside the frames, and their options (`frames.labels`)."""


@dataclass(frozen=True)
class FrameBatch:
    """A batch of clips: `frames` uint8 (B, T, H, W, C); `actions` float32 (B, T, A) that led to each frame.

    `actions` is None for single frames, which have no past to act in, and for stores without actions. `targets` holds the labels that
    were asked for, each (B, T, ...).
    """

    frames: np.ndarray
    actions: np.ndarray | None = None
    targets: dict[str, np.ndarray] = field(default_factory=dict)


class FrameBatches:
    """Endless shuffled batches of a split of one store or several, the same for the same seed.

    Every pass over a store goes through all its clips of `clip_length` frames, `stride` apart, in an order of its own; a batch at a
    pass's end is filled from the next, so that none is short and no frame is lost. Clips never cross an episode. Several stores are mixed
    by `weights`, which hold exactly over time; by default each frame comes as often as any other.

    All clips have `frames_per_second`: the rate that the recordings of all stores have in common, by `stride`. Recordings that cannot
    have it are left out, and it is said how many.

    `batch_size` counts the clips of all `ranks` together; this one is `rank` and gets its own part of every batch. The position is that of
    all, so that a run may go on with another number of ranks. `flip` mirrors half of the clips, left to right. `targets` are labels that
    every batch brings along, {name: options} of `frames.labels`.

    Raises `UserError` when a store has no such clip or lacks what a label needs, when stores do not fit together, and for `flip` with
    actions or a state, which it would falsify.
    """

    def __init__(
        self,
        store: FrameStore | Sequence[FrameStore],
        split: str,
        batch_size: int,
        clip_length: int = 1,
        seed: int = 0,
        *,
        stride: int = 1,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        ranks: int = 1,
        flip: bool = False,
        targets: Targets | None = None,
    ) -> None:
        self.stores = [store] if isinstance(store, FrameStore) else list(store)
        self.split, self.clip_length, self.stride = split, clip_length, stride
        _check_sizes(batch_size, clip_length, stride, seed, rank, ranks)
        _check_stores(self.stores, clip_length, flip, targets or {})
        self._labels = [Labels(one, targets or {}) for one in self.stores]
        rate = common_rate(episode for one in self.stores for episode in one.episodes) or self.stores[0].frames_per_second
        self.frames_per_second = rate / stride
        self.strides = [one.strides_at(self.frames_per_second) for one in self.stores]
        starts = [
            _some(one, split, one.starts(split, clip_length, steps), clip_length, steps)
            for one, steps in zip(self.stores, self.strides, strict=True)
        ]
        if rank == 0 and clip_length > 1:
            self._say_rates()
        weights = checked_weights(weights, [len(clips) for clips in starts])
        self.shape = (batch_size // ranks, clip_length, *self.stores[0].frame_shape)
        self._sampler = Sampler(starts, batch_size, seed, weights, rank, ranks, flip)
        self._free: deque[np.ndarray] = deque(maxlen=_FREE_ARRAYS)
        self._identity = {
            "fingerprint": [one.fingerprint for one in self.stores],
            "identities": [one.identity for one in self.stores],
            "seed": seed,
            "clip_length": clip_length,
            "stride": stride,
            "clips": [len(clips) for clips in starts],
            "weights": weights,
            "batch_size": batch_size,
            "flip": flip,
        }
        if targets:
            # only then, so that positions saved without any stay good
            self._identity["targets"] = self._labels[0].identity

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        return self.read(self.plan())

    def plan(self) -> Plan:
        """Draw the next batch without reading it."""
        return self._sampler.plan()

    def read(self, plan: Plan, out: np.ndarray | None = None) -> FrameBatch:
        """Read a batch that was drawn, from any thread; the frames into `out` uint8 of `shape`, if given."""
        frames = self._unused() if out is None else out
        if frames.shape != self.shape:
            raise ValueError(f"out has the shape {frames.shape}; it must be {self.shape}")
        actions, begin = [], 0
        for number, starts in plan.parts:
            store, strides, end = self.stores[number], self.strides[number], begin + len(starts)
            store.windows(starts, self.clip_length, strides, out=frames[begin:end])
            actions.append(store.action_windows(starts, self.clip_length, strides) if self.clip_length > 1 else None)
            begin = end
        if plan.flipped is not None:
            frames[plan.flipped] = frames[plan.flipped, :, :, ::-1]
        known = [part for part in actions if part is not None]
        return FrameBatch(frames, np.concatenate(known) if known else None, self.targets(plan))

    def targets(self, plan: Plan) -> dict[str, np.ndarray]:
        """Read the labels alone of a batch that was drawn, from any thread."""
        parts = [self._labels[number].at(starts, self.clip_length, self.strides[number]) for number, starts in plan.parts]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if plan.flipped is not None:
            for name in found.keys() & set(PICTURES):
                found[name][plan.flipped] = found[name][plan.flipped, :, :, ::-1]
        return found

    def _say_rates(self) -> None:
        for store, strides in zip(self.stores, self.strides, strict=True):
            line = store.rates_line(self.split, strides)
            if line is not None:
                say(line)

    def _unused(self) -> np.ndarray:
        """Return an array in the memory of an earlier batch that is gone, or in new memory, which costs more than filling it."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.shape, np.uint8)
        # whatever is made of a batch, a tensor or a part, holds this array, since numpy looks for no array behind a buffer
        lent = np.frombuffer(memory.data.cast("B"), np.uint8)
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return lent.reshape(self.shape)

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in: plain numbers and texts."""
        return {**self._sampler.position(), **self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken; raise `UserError` when these are other batches."""
        where = " and ".join(str(store.path) for store in self.stores)
        check_difference(where, state, self._identity)
        try:
            self._sampler.seek(state["passes"], state["positions"])
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: cannot go on with these frames: the saved position is damaged ({error}); start over") from error


def in_order(
    store: FrameStore,
    split: str,
    batch_size: int,
    clip_length: int = 1,
    limit: int | None = None,
    *,
    stride: int | Strides = 1,
    targets: Targets | None = None,
) -> Iterator[FrameBatch]:
    """Return a split's frames in order, each once; the last batch is short. `limit` takes that many, evenly spread.

    With clips, one follows the other; what is left of an episode after its last whole clip is not returned. `targets` are the labels that
    come along. Raises `UserError` when the split has none, or the store lacks what a label needs.
    """
    labels = Labels(store, targets or {})
    starts = _some(store, split, side_by_side(store, split, clip_length, stride), clip_length, stride)
    if limit is not None and limit < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, max(1, limit)).round().astype(np.int64)]
    return (_read(store, starts[at : at + batch_size], clip_length, stride, labels) for at in range(0, len(starts), batch_size))


def side_by_side(store: FrameStore, split: str, clip_length: int, stride: int | Strides = 1) -> np.ndarray:
    """Return int64 (N,): where clips begin that follow one another in a split's episodes, without sharing a frame."""
    if clip_length == 1:
        return store.indices(split)
    ranges = [
        np.arange(episode.first, episode.first + episode.length - (clip_length - 1) * step, clip_length * step)
        for episode, step in store.strided(split, stride)
    ]
    return np.concatenate([np.empty(0, np.int64), *ranges]).astype(np.int64, copy=False)


def sample_frames(store: FrameStore, split: str, count: int, seed: int) -> np.ndarray:
    """Return at most `count` frames uint8 (N, H, W, C) of a split, drawn with `seed`."""
    return store.frames(_drawn(store.indices(split), count, seed))


def sample_sequences(store: FrameStore, split: str, count: int, seed: int, stride: int | Strides = 1) -> FrameBatch:
    """Return sequences of at most `count` frames of a split in all, with their actions, drawn with `seed`.

    For models with memory: T is as long as the recordings allow in which half of the frames lie, and 250 at most, so that a memory
    has filled. Raises `UserError` when the split has no ordered recording.
    """
    lengths = np.sort([(episode.length - 1) // step + 1 for episode, step in store.strided(split, stride)])[::-1]
    half = int(np.searchsorted(np.cumsum(lengths), lengths.sum() / 2))
    length = min(_LONGEST_SEQUENCE, count, int(lengths[half])) if len(lengths) else 1
    starts = _some(store, split, side_by_side(store, split, length, stride) if len(lengths) else lengths, length, stride)
    return _read(store, _drawn(starts, count // length, seed), length, stride)


def _drawn(starts: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(starts) <= count:
        return starts
    return np.sort(np.random.default_rng(seed).choice(starts, count, replace=False))


def _some(store: FrameStore, split: str, starts: np.ndarray, clip_length: int, stride: int | Strides) -> np.ndarray:
    if len(starts):
        return starts
    counts = {name: len(store.starts(name, clip_length, stride)) for name in ("train", "val", "test")}
    held = ", ".join(f"{count:,} in {name}" for name, count in counts.items() if count) or "none in any split"
    kind = "frames" if clip_length == 1 else f"clips of {clip_length} frames at {store.strides(stride).rate:g} frames/s"
    raise UserError(f"{store.path}: no {kind} in split '{split}' ({held}); name another split or build the store with one")


def _read(store: FrameStore, starts: np.ndarray, clip_length: int, stride: int | Strides, labels: Labels | None = None) -> FrameBatch:
    actions = store.action_windows(starts, clip_length, stride) if clip_length > 1 else None
    targets = {} if labels is None else labels.at(starts, clip_length, stride)
    return FrameBatch(store.windows(starts, clip_length, stride), actions, targets)


def _check_sizes(batch_size: int, clip_length: int, stride: int, seed: int, rank: int, ranks: int) -> None:
    for what, size, least in (("batch size", batch_size, 1), ("clip length", clip_length, 1), ("stride", stride, 1), ("seed", seed, 0)):
        if size < least:
            raise UserError(f"a {what} of {size}: must be at least {least}")
    if not 0 <= rank < ranks:
        raise UserError(f"rank {rank} of {ranks}: ranks count from 0")
    if batch_size % ranks:
        raise UserError(f"a batch size of {batch_size} cannot be shared by {ranks} ranks; choose a multiple of {ranks}")


def _check_stores(stores: list[FrameStore], clip_length: int, flip: bool, targets: Targets) -> None:
    """Raise `UserError` for stores whose frames or actions would not mean the same."""
    if not stores:
        raise UserError("no frame store is given")
    first = stores[0]
    for other in stores[1:]:
        for what, one, another in (
            ("frames of shape", first.frame_shape, other.frame_shape),
            ("frames resized by", first.meta["resize"], other.meta["resize"]),
            ("actions", _actions(first, clip_length, targets), _actions(other, clip_length, targets)),
            ("states of", _states(first, targets), _states(other, targets)),
        ):
            if one != another:
                raise UserError(f"{first.path} and {other.path} cannot be mixed: {what} {one} and {another}")
    if flip and clip_length > 1 and first.action_names is not None:
        raise UserError(f"{first.path}: has actions, and a mirrored clip would make its left and right wrong; leave out flip")
    if flip and set(SIDED) & targets.keys():
        raise UserError(f"{first.path}: '{min(set(SIDED) & targets.keys())}' would be wrong beside a mirrored frame; leave out flip")


def _actions(store: FrameStore, clip_length: int, targets: Targets) -> Any:
    """What the numbers of an action stand for; single frames carry none, if no label has any."""
    if (clip_length == 1 and "next_actions" not in targets) or store.action_names is None:
        return None
    return store.action_names, store.action_size, store.action_texts


def _states(store: FrameStore, targets: Targets) -> list[str]:
    return state_names(store) if "state" in targets else []
