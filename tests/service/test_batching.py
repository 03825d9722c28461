"""The encoder's thread by itself: who is answered when, and what it says once it has ended."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.batching import EncoderThread, Job
from service.errors import ServiceError
from service.statistics import ModelStatistics


def job(name: str, rows: int = 8, loop: asyncio.AbstractEventLoop | None = None) -> Job:
    """Return rows for a model that is only a name: what encodes them is the test's."""
    model: Any = SimpleNamespace(name=name)
    future: asyncio.Future[Any] = (loop or asyncio.get_running_loop()).create_future()
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
