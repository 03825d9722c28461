"""Connections over TCP between two processes that share a key: whoever has it gets through, and no stranger is in the way."""

import contextlib
import hmac
import os
import secrets
import socket
import struct
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

HANDSHAKE_SECONDS = 5.0
"""How long a peer has for all of the handshake, however it spreads its bytes."""
_NONCE = 32
_MOST_PENDING = 32
"""Handshakes at a time; the oldest gives way, since one who has the key needs a millisecond."""
_SILENT_SECONDS = 30
_PAUSE_SECONDS = 0.03


class KeyedListener:
    """Listens at `address`, (host, port), for one peer with the `key`; all others are dropped.

    Both sides prove with HMAC-SHA256 over both sides' nonces that they have the key, before a byte of a message is read: messages are
    pickles. Everything in the handshake has a fixed length.
    """

    def __init__(self, host: str, key: bytes) -> None:
        self._key = key
        self._socket = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._pending: deque[socket.socket] = deque()
        self._found: socket.socket | None = None
        self._lock = threading.Lock()

    def accept(self) -> Connection:
        """Wait for the peer that has the key, and return the connection to it; nobody is listened to after that."""
        self._socket.settimeout(_PAUSE_SECONDS)
        with self._socket:
            while self._found is None:
                try:
                    stranger, _ = self._socket.accept()
                except TimeoutError:
                    continue
                except OSError:
                    # one that has gone again, or no file left to open
                    time.sleep(_PAUSE_SECONDS)
                    continue
                self._admit(stranger)
        with self._lock:
            for stranger in self._pending:
                _drop(stranger)
        return _connection(self._found)

    def _admit(self, stranger: socket.socket) -> None:
        with self._lock:
            self._pending.append(stranger)
            if len(self._pending) > _MOST_PENDING:
                _drop(self._pending.popleft())
        threading.Thread(target=self._greet, args=(stranger,), daemon=True).start()

    def _greet(self, stranger: socket.socket) -> None:
        try:
            proven = self._has_key(stranger)
        # whatever a peer does, the next one is listened to
        except OSError:
            proven = False
        with self._lock:
            if stranger in self._pending:
                self._pending.remove(stranger)
            if proven and self._found is None:
                self._found = stranger
            else:
                stranger.close()

    def _has_key(self, stranger: socket.socket) -> bool:
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        ours = secrets.token_bytes(_NONCE)
        _send(stranger, ours, deadline)
        theirs, proof = _receive(stranger, _NONCE, deadline), _receive(stranger, _NONCE, deadline)
        if not hmac.compare_digest(proof, _proof(self._key, b"calls", ours, theirs)):
            return False
        _send(stranger, _proof(self._key, b"listens", ours, theirs), deadline)
        return True


def connect(address: tuple[str, int], key: bytes) -> Connection:
    """Return the connection to a `KeyedListener`; raise `OSError` where none with this key answers there within seconds."""
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    made = socket.create_connection(address, HANDSHAKE_SECONDS)
    try:
        theirs, ours = _receive(made, _NONCE, deadline), secrets.token_bytes(_NONCE)
        _send(made, ours + _proof(key, b"calls", theirs, ours), deadline)
        if not hmac.compare_digest(_receive(made, _NONCE, deadline), _proof(key, b"listens", theirs, ours)):
            raise ConnectionRefusedError("what listens there has another key")
        return _connection(made)
    except BaseException:
        made.close()
        raise


def limit(connection: Any) -> None:
    """Raise where the other side stops in the middle of a message."""
    with socket.socket(fileno=os.dup(connection.fileno())) as shared:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            shared.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _SILENT_SECONDS, 0))


def _connection(made: socket.socket) -> Connection:
    made.settimeout(None)
    _tune(made)
    return Connection(made.detach())


def _tune(made: socket.socket) -> None:
    """Send small messages at once, and notice within half a minute that the other node is gone."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for option, value in ((socket.TCP_KEEPIDLE, _SILENT_SECONDS // 2), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENT_SECONDS)


def _proof(key: bytes, role: bytes, listeners: bytes, callers: bytes) -> bytes:
    # with the role: what one side has sent proves nothing from the other
    return hmac.digest(key, role + listeners + callers, "sha256")


def _send(peer: socket.socket, content: bytes, deadline: float) -> None:
    peer.settimeout(max(deadline - time.monotonic(), 1e-3))
    peer.sendall(content)


def _receive(peer: socket.socket, count: int, deadline: float) -> bytes:
    content = b""
    while len(content) < count:
        peer.settimeout(max(deadline - time.monotonic(), 1e-3))
        if time.monotonic() > deadline:
            raise TimeoutError("no answer")
        more = peer.recv(count - len(content))
        if not more:
            raise ConnectionResetError("it hung up")
        content += more
    return content


def _drop(stranger: socket.socket) -> None:
    # its thread closes it
    with contextlib.suppress(OSError):
        stranger.shutdown(socket.SHUT_RDWR)
