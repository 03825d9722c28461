"""Standard output and error that a command survives: whoever reads them may go away, their disk may be full, their letters few."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Lasting:
    """A text stream whose failure ends no command: what nobody takes any more goes nowhere, and `failure` says why."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        # a letter that the encoding lacks is spelled out (\xfc) instead of ending the command
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Let what is still buffered, and all that follows, go nowhere."""
        self.failure = self.failure or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        self._stream.flush()


@contextmanager
def lasting_output() -> Iterator[list[Lasting]]:
    """Make standard output and error last meanwhile; where a program has none of them, there is nothing to lose."""
    before = sys.stdout, sys.stderr
    streams = [None if stream is None else Lasting(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield [stream for stream in streams if stream is not None]
    finally:
        sys.stdout, sys.stderr = before
