"""The learner's side of an environment actor: Ray starts and ends it, requests and answers take a connection of their own.

A Ray call costs CPU time on both sides, a message over a socket next to none; and a socket ends at once when its other side dies.
"""

import pickle
import secrets
import threading
import time
from collections.abc import Collection
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, NodeDiedError, ObjectLostError, RayActorError, RayError, RayTaskError, WorkerCrashedError

from foundation.connections import connect, limit
from foundation.errors import UserError
from foundation.progress import say

_DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
_POLL_SECONDS = 0.05
"""How often Ray is asked for actors that are starting."""
_REASON_SECONDS = 2.0


class ActorLost(Exception):
    """An actor died, or did not answer in time."""


class ActorConnection:
    """An actor, from its start to its end, and the way to it.

    One request is under way at a time: a new one gives up the answer to the one before. What is asked of an actor that still
    starts is sent when it has; its `about`, which `EnvironmentHost.start` returns, is there from then on.
    """

    def __init__(self, handle: Any, arguments: tuple[Any, ...], timeout_seconds: float) -> None:
        self.handle, self.timeout_seconds = handle, timeout_seconds
        self.about: dict[str, Any] = {}
        self._key = secrets.token_bytes(32)
        self._starting = handle.start.remote(self._key, *arguments)
        self._deadline = time.monotonic() + timeout_seconds
        self._connection: Any = None
        self._number = 0
        self._request: bytes | None = None
        self._answer: tuple[Any, Exception | None] | None = None
        self._failure: Exception | None = None
        """Why nothing is to be hoped for any more."""

    def ask(self, method: str, *arguments: Any, within: float | None = None) -> None:
        """Send a request to call a method of the actor, to be answered within so many seconds."""
        self._number += 1
        self._answer = None
        self._deadline = time.monotonic() + (self.timeout_seconds if within is None else within)
        # a call that the other side cannot read still gets an answer
        self._request = pickle.dumps((self._number, cloudpickle.dumps((method, arguments))))
        if self._failure is not None:
            self._fail(self._failure)
        elif self._connection is not None:
            self._send()

    def take(self) -> Any:
        """Return the answer that has come; raise what the environments raised, or `ActorLost`."""
        assert self._answer is not None
        (value, error), self._answer = self._answer, None
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        """End the actor's process."""
        if self._connection is not None:
            self._connection.close()
        ray.kill(self.handle)

    def _send(self) -> None:
        assert self._request is not None
        try:
            self._connection.send_bytes(self._request)
        except OSError:
            self._lose(_reason(self.handle))

    def _receive(self) -> None:
        try:
            number, value, error = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._lose(_reason(self.handle))
        else:
            if number == self._number:
                self._answer = value, error

    def _started(self) -> None:
        """Connect to the actor that has started, and send what it was asked meanwhile."""
        try:
            self.about = ray.get(self._starting)
        except _DEATHS as error:
            self._lose(str(error))
        except RayTaskError as error:
            self._fail(error.cause if isinstance(error.cause, UserError) else error)
        else:
            self._connection = _connected(self.about["address"], self._key) or _relayed(self.handle)
            if self._request is None:
                self._answer = self.about, None
            else:
                self._send()
        self._starting = None

    def _lose(self, reason: str) -> None:
        self._fail(ActorLost(reason.strip().splitlines()[0]))

    def _fail(self, error: Exception) -> None:
        self._failure, self._answer = error, (None, error)


def answered(connections: Collection[ActorConnection]) -> list[ActorConnection]:
    """Wait until some of the actors have answered, died, or are late; return their connections."""
    while not (ready := [one for one in connections if one._answer is not None]):
        _hear(connections)
    return ready


def _hear(connections: Collection[ActorConnection]) -> None:
    """Wait for the next news, and note it."""
    starting = {one._starting: one for one in connections if one._starting is not None}
    open_ones = {one._connection: one for one in connections if one._starting is None}
    patience = max(0.0, min(one._deadline for one in connections) - time.monotonic())
    for connection in wait(list(open_ones), min(patience, _POLL_SECONDS) if starting else patience):
        open_ones[connection]._receive()
    if starting:
        for reference in ray.wait(list(starting), num_returns=len(starting), timeout=0)[0]:
            starting[reference]._started()
    now = time.monotonic()
    for one in connections:
        if one._answer is None and one._deadline <= now:
            one._lose(f"no answer for {one.timeout_seconds:g} s")


def _connected(address: tuple[str, int], key: bytes) -> Connection | None:
    try:
        connection = connect(address, key)
    except OSError as error:
        say(f"no connection to the environment actor at {address[0]}:{address[1]} ({error}): using Ray calls instead")
        return None
    limit(connection)
    return connection


def _relayed(actor: Any) -> Connection:
    """Return a connection whose messages a thread takes to the actor in Ray calls."""
    ours, theirs = Pipe()
    threading.Thread(target=_relay, args=(actor, theirs), daemon=True).start()
    return ours


def _relay(actor: Any, requests: Connection) -> None:
    with requests:
        while True:
            try:
                requests.send_bytes(ray.get(actor.answer.remote(requests.recv_bytes())))
            except (EOFError, OSError, RayError):
                return


def _reason(actor: Any) -> str:
    """Return what Ray knows about an actor's end."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=_REASON_SECONDS)
    except GetTimeoutError:
        pass
    except RayError as error:
        return str(error)
    return "its connection ended"
