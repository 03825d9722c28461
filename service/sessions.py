"""Sequences, whose memory the service keeps between requests.

An entry holds rows of bytes of its own: a row sliced from a batch would keep the whole batch alive.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from service.errors import bad_request, busy
from service.messages import SequenceId

Key = tuple[str, str, SequenceId]
"""Who asks (a token's digest, "" without), of which model, and the sequence's id: two tokens never meet."""


@dataclass(eq=False)
class Session:
    """The memory of one sequence: rows uint8 (B, size), and whose weights they are of."""

    rows: np.ndarray
    digest: bytes
    used: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Requests of one sequence are answered in the order they came."""
    open: bool = True

    def check(self, key: Key, rows: int) -> None:
        """Raise `ServiceError` for another number of rows, and where the sequence has ended while a request waited for its turn."""
        if not self.open:
            raise bad_request(f"{_unknown(key)} (it has ended)")
        if len(self.rows) != rows:
            raise bad_request(f"this sequence has {len(self.rows)} rows, got {rows}; start it anew to change that")


class Sessions:
    """All sequences of all models; those that nobody uses for `idle_seconds` end."""

    def __init__(self, most: int, most_bytes: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._most_bytes, self._idle, self._clock = most, most_bytes, idle_seconds, clock
        self._sessions: OrderedDict[Key, Session] = OrderedDict()
        self.bytes = 0
        """Held by all rows."""

    def __len__(self) -> int:
        return len(self._sessions)

    def count(self, model: str) -> int:
        """Return how many sequences of a model there are."""
        return sum(key[1] == model for key in self._sessions)

    def start(self, key: Key, rows: np.ndarray, digest: bytes) -> Session:
        """Begin a sequence, which ends one of the same key; raise `ServiceError` where there is no room."""
        self.end_idle()
        before = self._sessions.get(key)
        held = 0 if before is None else before.rows.nbytes
        if before is None and len(self._sessions) >= self._most:
            raise busy(f"{self._most} sequences are open, and no more are allowed; end some with sequence_end")
        if self.bytes - held + rows.nbytes > self._most_bytes:
            raise busy(f"open sequences hold {self.bytes} bytes, and {self._most_bytes} are allowed; end some with sequence_end")
        session = Session(rows.copy(), digest, self._clock())
        if before is not None:
            # who came before waits for the old one's memory, and is answered first
            session.turn = before.turn
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        self.bytes += rows.nbytes - held
        return session

    def find(self, key: Key, digest: bytes) -> Session:
        """Return a sequence that goes on; raise `ServiceError` where there is none of these weights."""
        self.end_idle()
        session = self._sessions.get(key)
        if session is not None and session.digest != digest:
            self.end(key, session)
            why = f"its memory is of the weights {session.digest.hex()}, and the model now has {digest.hex()}"
            raise bad_request(f"{_unknown(key)} ({why})")
        if session is None:
            raise bad_request(f"{_unknown(key)} (it is unknown, has ended, or nobody used it for {self._idle:g} s)")
        session.used = self._clock()
        self._sessions.move_to_end(key)
        return session

    def keep(self, key: Key, session: Session, rows: np.ndarray) -> None:
        """Keep a sequence's next rows, as many as before."""
        if self._sessions.get(key) is session:
            session.rows[...] = rows
            session.used = self._clock()

    def end(self, key: Key, session: Session) -> None:
        """End a sequence, unless it was started anew."""
        session.open = False
        if self._sessions.get(key) is session:
            del self._sessions[key]
            self.bytes -= session.rows.nbytes

    def end_idle(self) -> None:
        """End the sequences that nobody has used for long."""
        oldest = self._clock() - self._idle
        while self._sessions:
            key, session = next(iter(self._sessions.items()))
            if session.used > oldest or session.turn.locked():
                break
            self.end(key, session)


def _unknown(key: Key) -> str:
    return f"inference request for sequence {key[2]} to model '{key[1]}' must specify the START flag on the first request of the sequence"
