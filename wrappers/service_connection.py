"""Questions over HTTP to a perception service, asked again while it is away: each may be repeated, since the service keeps nothing."""

import http.client
import os
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

from foundation.documents import parse
from foundation.errors import UserError, in_one_line
from foundation.places import Address
from foundation.telling import tell
from foundation.tokens import TOKEN, TOKEN_FILE, service_token

_PASSING = (408, 425, 429, 502, 503, 504)
"""Statuses that say: later."""
_FAULTS = 3
"""How often a question is asked that is answered with 500: a replica may have died over it, or it may be what kills replicas."""
_ANSWER_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
MOST_BYTES = 2**24
"""Of an answer without tensors."""


@dataclass(frozen=True)
class Answer:
    """What came back with status 200."""

    body: bytes
    head_length: str | None
    """How much of it is JSON, as the header says."""


class ServiceConnection:
    """The connections to one service, one a thread. A pickled one has none, and a forked process makes its own.

    The token is looked up where a connection is made, and never pickled.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._local = threading.local()

    def __reduce__(self) -> tuple[type, tuple[Address]]:
        return ServiceConnection, (self.address,)

    def document(self, path: str, within: float) -> Any:
        """Return the JSON value at `path`; raise `UserError` as `ask` does."""
        return parse(self.ask("GET", path, within=within).body, f"{self.address}: {path}", "is that a perception service?")

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, within: float, most: int = MOST_BYTES
    ) -> Answer:
        """Return the answer, of at most `most` bytes, to a question that may be repeated.

        It is asked again while the service cannot be reached or says to come later, for `within` seconds. Raises `UserError` when they
        are over, at once for an answer that would come again, and for a certificate that is not to be trusted.
        """
        deadline, pause, faults = time.monotonic() + within, 0.0, 0
        while True:
            fresh = self._made() is None
            wait = None
            try:
                status, reply, content = self._exchange(method, path, body, headers or {}, deadline, most)
                if status == 200:
                    return Answer(content, reply.getheader("Inference-Header-Content-Length"))
                faults += status == 500
                reason = f"status {status}, {_error_text(content)}"
                if not _passes(status, content) and not (status == 500 and faults < _FAULTS):
                    # the next connection may have another token
                    self.close()
                    raise UserError(f"{self.address}: {_refusal(status, reason)}")
                wait = _seconds(reply.getheader("Retry-After"))
            except ssl.SSLCertVerificationError as error:
                raise UserError(f"{self.address}: its certificate is not trusted ({in_one_line(error.verify_message)})") from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not fresh:
                    # it had been idle for too long, perhaps
                    continue
                reason = in_one_line(error) or type(error).__name__
            pause = wait if wait is not None else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            if time.monotonic() + pause > deadline:
                raise UserError(f"{self.address}: no answer for {within:g} s ({reason}); start serve_encoder.py there, then run this again")
            tell(f"{self.address}: no answer ({reason}); trying again for up to {within:g} s")
            time.sleep(pause)

    def close(self) -> None:
        """Close this thread's connection; the next question makes another."""
        if (made := self._made()) is not None:
            self._local.made = None
            made.close()

    def _made(self) -> http.client.HTTPConnection | None:
        """Return this thread's connection; None where there is none, or it is a parent's process's."""
        owner, made, _ = getattr(self._local, "made", None) or (None, None, None)
        return made if owner == os.getpid() else None

    def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: float, most: int
    ) -> tuple[int, http.client.HTTPResponse, bytes]:
        connection = self._made() or self._make()
        left = max(0.1, min(_ANSWER_SECONDS, deadline - time.monotonic()))
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)
        connection.request(method, path, body or None, headers | self._local.made[2])
        reply = connection.getresponse()
        content = reply.read(most + 1)
        if len(content) > most:
            self.close()
            raise UserError(f"{self.address}: answered with more than {most:,} bytes; is that a perception service?")
        if reply.length:
            raise http.client.IncompleteRead(content, reply.length)
        # one that is read to its end lets the connection be used again
        reply.read()
        return reply.status, reply, content

    def _make(self) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        token = service_token()
        made = http.client.HTTPSConnection(host, port) if self.address.secure else http.client.HTTPConnection(host, port)
        self._local.made = os.getpid(), made, {"Authorization": f"Bearer {token}"} if token else {}
        return made


def _refusal(status: int, reason: str) -> str:
    if status in (401, 403):
        return f"the service wants its token ({reason}); put it into {TOKEN}, or the path of its file into {TOKEN_FILE}"
    return f"the service refuses ({reason})"


def _passes(status: int, content: bytes) -> bool:
    """Say whether another answer may come later: what is not found by a proxy, and not by the service, may be a service that is away."""
    return status in _PASSING or (status == 404 and _service_error(content) is None)


def _error_text(content: bytes) -> str:
    """Return what an answer says that is none, in one line."""
    said = _service_error(content)
    return in_one_line(content[:300]) if said is None else in_one_line(said, 300)


def _service_error(content: bytes) -> object:
    """Return the service's own text in an answer; None in one of somebody else."""
    try:
        value = parse(content, "")
    except UserError:
        return None
    return value.get("error") if isinstance(value, dict) else None


def _seconds(text: str | None) -> float | None:
    return min(max(float(text), _FIRST_PAUSE), _ANSWER_SECONDS) if text is not None and text.isdecimal() else None
