"""The one thread that encodes: batches form of what waits while it is busy.

`exact` encodes 8 rows at a time and fills up with zeros where fewer wait: measured over all encoders, a row's latents then depend on
neither its place nor its neighbours, bit for bit. `fast` encodes what waits, unpadded. `alone` encodes each request by itself, in the
chunks and with the remainder that a `FrozenEncoder` would.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np
import torch

from foundation.errors import UserError
from frames.resize import resize_frames
from service.errors import ServiceError, bad_request, busy, say_failure
from service.loaded_model import LoadedModel
from service.options import Batching
from service.statistics import ModelStatistics

CHUNK = 8
"""Rows that `exact` encodes at a time, on any device: those of a `FrozenEncoder` on a CPU."""
MOST_ROWS = 64
"""Rows that `fast` encodes at a time on a GPU."""
MOST_ROWS_ON_CPU = 32
"""And on a CPU: a row costs a light encoder half as much as in eights, and the heaviest a sixth more (benchmarks/results/service.md)."""

_PLENTY = 4 * CHUNK
"""Rows that wait so long that what is encoded may be handed over together: to wake the event loop costs as much as to encode a row."""
_LONGEST_HELD_NS = 3_000_000


@dataclass(eq=False)
class Job:
    """Rows that wait to be encoded: frames of any size, actions where the model takes them, and the states before."""

    model: LoadedModel
    statistics: ModelStatistics
    frames: np.ndarray
    action: np.ndarray | None
    state: np.ndarray
    wanted: tuple[str, ...]
    batching: Batching
    future: "asyncio.Future[dict[str, np.ndarray]]"
    arrived: int = field(default_factory=time.perf_counter_ns)
    taken: int = 0
    """Rows handed to the encoder."""
    parts: list[dict[str, np.ndarray]] = field(default_factory=list)
    encoded: int = 0

    @property
    def rows(self) -> int:
        return len(self.frames)

    @property
    def kind(self) -> tuple:
        """What batches that take about the same time have in common."""
        return (id(self.model), self.wanted, self.batching)

    @property
    def key(self) -> tuple:
        """What rows of one batch have in common."""
        return (*self.kind, id(self) if self.batching == "alone" else 0)


@dataclass
class Part:
    """Some rows of a job in a batch."""

    job: Job
    rows: slice


class EncoderThread:
    """Takes jobs from an event loop and answers them there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most_rows: int) -> None:
        self._loop, self._most_rows = loop, most_rows
        self._waiting: OrderedDict[tuple, deque[Job]] = OrderedDict()
        self._wake = threading.Condition()
        self._ended = False
        self._torch_threads = torch.get_num_threads()
        self.waiting_rows = 0
        self._done: list[Job] = []
        """Encoded, and not handed over yet."""
        self._handed_over = 0
        self._batch_begun = 0
        """When the encoder was given what it has now; 0 where it has nothing."""
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def pending(self, model: str) -> int:
        """Return how many requests of a model wait."""
        with self._wake:
            return sum(job.model.name == model for jobs in self._waiting.values() for job in jobs)

    @property
    def batch_seconds(self) -> float:
        """How long the encoder has been at what it encodes now; 0 where it waits for more."""
        begun = self._batch_begun
        return (time.perf_counter_ns() - begun) / 1e9 if begun else 0.0

    async def encode(self, job: Job, seconds: float) -> dict[str, np.ndarray]:
        """Return a job's outputs; raise `ServiceError` where too much waits already, or where it takes longer than so many seconds."""
        with self._wake:
            if self._ended:
                raise busy("the service is ending")
            if self.waiting_rows + job.rows > self._most_rows and (self.waiting_rows or job.rows > self._most_rows):
                raise busy(f"{self.waiting_rows} rows wait for the encoder, and at most {self._most_rows} may; try again")
            self._waiting.setdefault(job.key, deque()).append(job)
            self.waiting_rows += job.rows
            self._wake.notify()
        late = self._loop.call_later(seconds, self._give_up, job, seconds)
        try:
            return await job.future
        finally:
            late.cancel()

    def close(self) -> None:
        """End the thread once what it encodes now is done."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join()

    def _give_up(self, job: Job, seconds: float) -> None:
        if not job.future.done():
            job.future.set_exception(ServiceError(504, f"no answer within {seconds:g} s"))

    def _run(self) -> None:
        # OpenMP keeps the number for each thread, and a new one begins with all cores
        torch.set_num_threads(self._torch_threads)
        kind: tuple = ()
        while parts := self._next():
            if parts[0].job.kind != kind:
                # those may take any time, for which nothing done is held
                self._hand_over()
                kind = parts[0].job.kind
            begun = self._batch_begun = time.perf_counter_ns()
            try:
                self._done += _encode(parts, begun)
            # whatever an encoder does, the next request is answered
            except Exception as error:
                self._fail(parts, error)
            self._batch_begun = 0
            if self.waiting_rows < _PLENTY or time.perf_counter_ns() - self._handed_over > _LONGEST_HELD_NS:
                self._hand_over()
        self._hand_over()

    def _hand_over(self) -> None:
        if self._done:
            self._loop.call_soon_threadsafe(_finish, self._done)
            self._done, self._handed_over = [], time.perf_counter_ns()

    def _next(self) -> list[Part]:
        """Wait for jobs and return the rows to encode now; none where the thread is to end. Kinds of batches take turns."""
        with self._wake:
            while True:
                while not self._waiting:
                    if self._ended:
                        return []
                    # those that waited may all have been given up
                    self._hand_over()
                    self._wake.wait()
                key, jobs = self._waiting.popitem(last=False)
                parts = self._taken_from(jobs)
                if jobs:
                    self._waiting[key] = jobs
                if parts:
                    return parts

    def _taken_from(self, jobs: deque[Job]) -> list[Part]:
        parts: list[Part] = []
        room = _capacity(jobs[0])
        while jobs and room:
            job = jobs[0]
            count = min(room, job.rows - job.taken)
            if job.future.done():
                # given up, or its client has gone
                self.waiting_rows -= job.rows - job.taken
                jobs.popleft()
                continue
            parts.append(Part(job, slice(job.taken, job.taken + count)))
            job.taken += count
            room -= count
            self.waiting_rows -= count
            if job.taken == job.rows:
                jobs.popleft()
            else:
                # a request of thousands of rows lets others through
                jobs.rotate(-1)
        return parts

    def _fail(self, parts: list[Part], error: Exception) -> None:
        if isinstance(error, UserError):
            failure = bad_request(str(error))
        else:
            say_failure("an encoder failed", error)
            failure = ServiceError(500, "the encoder failed; the service's own output says why")

        def tell() -> None:
            for part in parts:
                if not part.job.future.done():
                    part.job.future.set_exception(failure)

        self._loop.call_soon_threadsafe(tell)


def _capacity(job: Job) -> int:
    if job.batching == "exact":
        return CHUNK
    if job.batching == "alone":
        return job.model.frozen.batch_rows(job.rows)
    return MOST_ROWS_ON_CPU if job.model.frozen.device.type == "cpu" else MOST_ROWS


def _encode(parts: list[Part], begun: int) -> list[Job]:
    """Encode the rows of one batch and return the jobs that have all of theirs."""
    model, wanted = parts[0].job.model, parts[0].job.wanted
    count = sum(part.rows.stop - part.rows.start for part in parts)
    pad = CHUNK - count if parts[0].job.batching == "exact" else 0
    frames = _joined([_fitting(model, part.job.frames[part.rows]) for part in parts], pad)
    state = _joined([part.job.state[part.rows] for part in parts], pad)
    action = _joined([part.job.action[part.rows] for part in parts if part.job.action is not None], pad)
    encoding = time.perf_counter_ns()
    found = model.encode(frames, state, action if model.frozen.action_size else None, wanted)
    encoded = time.perf_counter_ns()
    at, done = 0, []
    for part in parts:
        job, rows = part.job, part.rows.stop - part.rows.start
        if not job.parts:
            job.statistics.queue.add(begun - job.arrived)
        job.parts.append({name: array[at : at + rows] for name, array in found.items()})
        job.encoded += rows
        at += rows
        if job.encoded == job.rows:
            done.append(job)
    parts[0].job.statistics.called(count, begun, encoding, encoded, time.perf_counter_ns())
    return done


def _fitting(model: LoadedModel, frames: np.ndarray) -> np.ndarray:
    size = model.frozen.frame_shape[:2]
    return frames if frames.shape[1:3] == size else resize_frames(frames, size, model.info.resize)


def _joined(arrays: list[np.ndarray], pad: int) -> np.ndarray:
    """Join rows and add `pad` rows of zeros; one array without padding is returned as it is."""
    if not arrays:
        return np.zeros((0, 0), np.float32)
    if len(arrays) == 1 and not pad:
        return arrays[0]
    return np.concatenate([*arrays, *([np.zeros((pad, *arrays[0].shape[1:]), arrays[0].dtype)] if pad else [])])


def _finish(jobs: list[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            whole = job.parts[0]
            if len(job.parts) > 1:
                whole = {name: np.concatenate([part[name] for part in job.parts]) for name in whole}
            job.future.set_result(whole)
