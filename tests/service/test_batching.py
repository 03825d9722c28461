"""The encoder's thread by itself: who is answered when, and what it says once it has ended."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service import batching
from service.batching import EncoderThread, Job
from service.errors import ServiceError
from service.statistics import ModelStatistics


def job(name: str, rows: int = 8) -> Job:
    """Return rows for a model that is only a name: what encodes them is the test's."""
    model: Any = SimpleNamespace(name=name)
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    frames = np.zeros((rows, 2, 2, 3), np.uint8)
    return Job(model, ModelStatistics(), frames, None, np.zeros((rows, 0), np.uint8), ("latents",), "exact", future)


def test_what_is_asked_while_the_thread_ends_is_refused_at_once() -> None:
    class EndsBefore:
        """A condition that the thread ends just before it is held."""

        def __init__(self, thread: EncoderThread) -> None:
            self.own, self.close = thread._wake, thread.close

        def __enter__(self) -> None:
            thread._wake = self.own
            self.close()
            self.own.acquire()

        def __exit__(self, *_: object) -> None:
            self.own.release()

    async def ask() -> None:
        nonlocal thread
        thread = EncoderThread(asyncio.get_running_loop(), 64)
        thread._wake = EndsBefore(thread)  # type: ignore[assignment]
        await thread.encode(job("plain"), 1.0)

    thread: Any = None
    with pytest.raises(ServiceError, match="the service is ending") as refused:
        asyncio.run(ask())
    assert refused.value.status == 503


def test_answers_of_a_quick_model_do_not_wait_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, finish = threading.Event(), threading.Event()
    waits = {"first": go_on, "slow": finish}

    def encode(parts: list[batching.Part], begun: int) -> list[Job]:
        if parts[0].job.model.name in waits:
            waits[parts[0].job.model.name].wait(20)
        for part in parts:
            part.job.parts.append({"latents": np.zeros(1)})
        return [part.job for part in parts if part.job.taken == part.job.rows]

    async def ask() -> bool:
        thread = EncoderThread(asyncio.get_running_loop(), 1000)
        jobs = (job("first"), job("quick"), job("slow", 64))
        first, quick, slow = (asyncio.ensure_future(thread.encode(one, 60.0)) for one in jobs)
        await asyncio.sleep(0)
        # as after a hand-over just now, however slow this machine is
        thread._handed_over = time.perf_counter_ns() + 10**12
        go_on.set()
        done, _ = await asyncio.wait([quick], timeout=5.0)
        finish.set()
        await asyncio.gather(first, quick, slow)
        thread.close()
        return bool(done)

    monkeypatch.setattr(batching, "_encode", encode)
    assert asyncio.run(ask())
