"""Batches on their way to the device: read ahead by threads, or kept there altogether.

Reading releases Python's lock, so that threads overlap with training and with each other: no process to start, to lose or to leave
behind, and nothing to copy between processes.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from foundation.errors import UserError
from frames.batches import FrameBatches
from frames.rates import Strides
from frames.sampling import Plan
from frames.store import FrameStore, check_memory

_UPLOADED_AT_ONCE = 4096


@dataclass(frozen=True)
class DeviceBatch:
    """A batch as tensors on a device: `frames` uint8 (B, T, H, W, C), `actions` float32 (B, T, A) or None, `targets` (B, T, ...)."""

    frames: torch.Tensor
    actions: torch.Tensor | None = None
    targets: dict[str, torch.Tensor] = field(default_factory=dict)


def prefetch(batches: FrameBatches, device: str | torch.device = "cpu", workers: int = 1) -> Prefetched:
    """Return the same batches as tensors on `device`, read ahead by `workers` threads; close it, or use it in a `with` block.

    The batches and their order are those of `batches`, whatever the number of workers. Raises `UserError` for less than one.
    """
    return Prefetched(batches, device, workers)


def hold(batches: FrameBatches, device: str | torch.device) -> Held:
    """Return the same batches from frames that are kept on `device`: all of the split, read once.

    Raises `UserError` when they do not fit into the device's memory.
    """
    return Held(batches, device)


class Prefetched:
    """An endless iterator over `DeviceBatch`, with the position of what it has handed out, not of what it has read."""

    def __init__(self, batches: FrameBatches, device: str | torch.device, workers: int) -> None:
        if workers < 1:
            raise UserError(f"{workers} workers: must be at least 1")
        self._batches, self._ahead = batches, workers + 1
        self._copy = _copier(batches, device, self._ahead)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="frames")
        self._pending: deque[tuple[Future[_Copied], dict[str, Any]]] = deque()
        self._state = batches.state_dict()
        self._closed = False

    def __iter__(self) -> Iterator[DeviceBatch]:
        return self

    def __next__(self) -> DeviceBatch:
        if self._closed:
            raise ValueError("these batches are closed")
        self._read_ahead()
        future, state = self._pending.popleft()
        try:
            copied = future.result()
        except BaseException:
            # the batch was not handed out: the next call tries it again
            self.load_state_dict(self._state)
            raise
        self._state = state
        self._read_ahead()
        return copied.batch()

    def __enter__(self) -> Prefetched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was handed out: what `FrameBatches.state_dict` gives there."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position; what was read ahead is dropped."""
        self._drop()
        self._batches.load_state_dict(state)
        self._state = self._batches.state_dict()

    def close(self) -> None:
        """Wait for the threads to end. The position stays readable."""
        self._closed = True
        self._drop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read_ahead(self) -> None:
        while len(self._pending) < self._ahead:
            plan = self._batches.plan()
            self._pending.append((self._pool.submit(self._copy, plan), self._batches.state_dict()))

    def _drop(self) -> None:
        while self._pending:
            future, _ = self._pending.popleft()
            if not future.cancel():
                future.exception()


class Held:
    """An endless iterator over `DeviceBatch`, gathered on the device."""

    def __init__(self, batches: FrameBatches, device: str | torch.device) -> None:
        self._batches, self._device, self._closed = batches, torch.device(device), False
        self._indices = [store.indices(batches.split) for store in batches.stores]
        where = " and ".join(str(store.path) for store in batches.stores)
        if self._device.type == "cpu":
            check_memory(where, sum(map(len, self._indices)) * int(np.prod(batches.shape[2:])), "leave the frames in the file")
        readers = [store.frames for store in batches.stores]
        with_actions = batches.clip_length > 1 and batches.stores[0].action_names is not None
        action_readers = [partial(_actions, *both) for both in zip(batches.stores, batches.strides, strict=True)] if with_actions else []
        try:
            self._frames = [self._upload(*both) for both in zip(readers, self._indices, strict=True)]
            self._actions = [self._upload(*both) for both in zip(action_readers, self._indices, strict=False)]
        except torch.OutOfMemoryError as error:
            raise UserError(f"{where}: the frames do not fit into the memory of {self._device}; leave them in the file") from error

    def __iter__(self) -> Iterator[DeviceBatch]:
        return self

    def __next__(self) -> DeviceBatch:
        if self._closed:
            raise ValueError("these batches are closed")
        plan = self._batches.plan()
        rows = [(number, self._rows(number, starts)) for number, starts in plan.parts]
        frames = _joined([self._frames[number][row] for number, row in rows])
        if plan.flipped is not None:
            flipped = torch.from_numpy(plan.flipped).to(self._device)
            frames[flipped] = frames[flipped].flip(3)
        actions = _joined([self._actions[number][row] for number, row in rows]) if self._actions else None
        # read batch by batch: most are few numbers, and frames ahead would be held twice
        return DeviceBatch(frames, actions, _on(self._device, self._batches.targets(plan)))

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        return self._batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._batches.load_state_dict(state)

    def close(self) -> None:
        """Give the device's memory back. The position stays readable."""
        self._closed = True
        self._frames, self._actions = [], []

    def _rows(self, number: int, starts: np.ndarray) -> torch.Tensor:
        """Return where the clips' frames are among those held, int64 (N, T) on the device."""
        batches = self._batches
        wanted = batches.stores[number].window_indices(starts, batches.clip_length, batches.strides[number])
        return torch.from_numpy(np.searchsorted(self._indices[number], wanted)).to(self._device)

    def _upload(self, read: Callable[[np.ndarray], np.ndarray], indices: np.ndarray) -> torch.Tensor:
        """Read in parts what `read` gives for `indices`, into one tensor on the device."""
        like = read(indices[:1])
        held = torch.from_numpy(like).to(self._device).new_empty((len(indices), *like.shape[1:]))
        for first in range(0, len(indices), _UPLOADED_AT_ONCE):
            part = read(indices[first : first + _UPLOADED_AT_ONCE])
            held[first : first + len(part)] = torch.from_numpy(part)
        return held


def _on(device: torch.device, targets: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values).to(device) for name, values in targets.items()}


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _actions(store: FrameStore, strides: Strides, indices: np.ndarray) -> np.ndarray:
    """The action that led to each frame from the one a stride before, float32 (N, A)."""
    actions = store.action_windows(indices, 1, strides)
    assert actions is not None
    return actions[:, 0]


class _Copied:
    """A batch on the device, whose copy may still be under way."""

    def __init__(self, batch: DeviceBatch, arrived: torch.cuda.Event | None = None) -> None:
        self._batch, self._arrived = batch, arrived

    def batch(self) -> DeviceBatch:
        """Return the batch, ordered before what the current stream does next."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._batch.frames.device)
            stream.wait_event(self._arrived)
            for tensor in (self._batch.frames, self._batch.actions, *self._batch.targets.values()):
                if tensor is not None:
                    # its memory is not given away while this stream may still use it
                    tensor.record_stream(stream)
        return self._batch


def _copier(batches: FrameBatches, device: str | torch.device, buffers: int) -> Callable[[Plan], _Copied]:
    target = torch.device(device)
    if target.type == "cuda":
        # a new thread's current device is the first, whichever this one has chosen
        target = torch.device("cuda", torch.cuda.current_device() if target.index is None else target.index)
        return _CudaCopier(batches, target, buffers)

    def copy(plan: Plan) -> _Copied:
        batch = batches.read(plan)
        actions = None if batch.actions is None else torch.from_numpy(batch.actions).to(target)
        return _Copied(DeviceBatch(torch.from_numpy(batch.frames).to(target), actions, _on(target, batch.targets)))

    return copy


class _CudaCopier:
    """Reads into a ring of pinned buffers and copies from there on a stream of its own."""

    def __init__(self, batches: FrameBatches, device: torch.device, buffers: int) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device)
        self._ring: queue.SimpleQueue[tuple[torch.Tensor, torch.cuda.Event]] = queue.SimpleQueue()
        for _ in range(buffers):
            self._ring.put((torch.empty(batches.shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()))

    def __call__(self, plan: Plan) -> _Copied:
        buffer, event = self._ring.get()
        try:
            # the copy of the batch before may still be reading this buffer
            event.synchronize()
            batch = self._batches.read(plan, out=buffer.numpy())
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                frames = buffer.to(self._device, non_blocking=True)
                actions = None if batch.actions is None else torch.from_numpy(batch.actions).to(self._device)
                targets = _on(self._device, batch.targets)
                event = torch.cuda.Event()
                event.record(self._stream)
        finally:
            self._ring.put((buffer, event))
        return _Copied(DeviceBatch(frames, actions, targets), event)
