"""Signals that ask to stop."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ONE_SIGNAL_SECONDS = 1.0
"""Within that time signals are one: wrappers such as `timeout` pass on what the terminal has sent already."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; those that come within a second of the last are one."""
    received: list[int] = []
    last = -math.inf

    def receive(number: int, _: Any) -> None:
        nonlocal last
        last, before = time.monotonic(), last
        if last - before > _ONE_SIGNAL_SECONDS:
            received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
