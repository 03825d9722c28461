"""Whoever has the key connects, whatever strangers do at the same port."""

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from foundation import connections
from foundation.connections import KeyedListener, connect

KEY = bytes(range(32))


def http(peer):
    peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def tls(peer):
    peer.sendall(bytes.fromhex("16030100c8010000c40303") + bytes(194))


def silent(peer):
    pass


def one_byte(peer):
    peer.sendall(b"x")


def drips(peer):
    def drip():
        try:
            for _ in range(1000):
                peer.sendall(b"x")
                time.sleep(0.02)
        except OSError:
            pass

    threading.Thread(target=drip, daemon=True).start()


def hangs_up(peer):
    peer.close()


def resets(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def a_megabyte(peer):
    peer.setblocking(False)
    with suppress(OSError):
        peer.send(bytes(2**20))


def other_key(peer):
    theirs = peer.recv(32)
    peer.sendall(bytes(32) + connections._proof(b"another key", b"calls", theirs, bytes(32)))


def echoes(peer):
    nonce = peer.recv(32)
    peer.sendall(nonce + nonce)


def a_long_header(peer):
    peer.sendall(struct.pack("!i", 2**31 - 1) + b"#CHALLENGE#" + bytes(20))


HOSTILE = [http, tls, silent, one_byte, drips, hangs_up, resets, a_megabyte, other_key, echoes, a_long_header]


@pytest.fixture
def listening(monkeypatch):
    """Return a listener's address, and a list that gets the connection which it accepts."""
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 1.0)
    listener, accepted = KeyedListener("127.0.0.1", KEY), []
    thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
    thread.start()
    yield listener.address, accepted
    if thread.is_alive():
        connect(listener.address, KEY).close()
    thread.join(5)
    for connection in accepted:
        connection.close()


def talks(address, accepted):
    with connect(address, KEY) as learner:
        learner.send_bytes(b"step")
        while not accepted:
            time.sleep(0.005)
        assert accepted[0].recv_bytes() == b"step"
        accepted[0].send_bytes(b"done")
        return learner.recv_bytes() == b"done"


def test_all_of_them_are_strangers() -> None:
    assert len(HOSTILE) == 11


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_stranger_is_dropped_and_the_learner_still_connects(listening, hostile) -> None:
    address, accepted = listening
    with socket.create_connection(address, 5) as peer:
        hostile(peer)
        if peer.fileno() >= 0:
            # within the handshake's time, and nothing but the nonce comes
            peer.settimeout(4)
            heard = b""
            try:
                while more := peer.recv(4096):
                    heard += more
            except ConnectionError:
                pass
            assert len(heard) <= 32
        assert not accepted
        assert talks(address, accepted)


def test_all_strangers_at_once_do_not_keep_the_learner_waiting(listening) -> None:
    address, accepted = listening
    with ExitStack() as stack:
        for hostile in HOSTILE:
            hostile(stack.enter_context(socket.create_connection(address, 5)))
        assert talks(address, accepted)


def test_more_silent_strangers_than_places_do_not_either(listening) -> None:
    address, accepted = listening
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(address, 5))
        assert talks(address, accepted)


def test_after_the_learner_nobody_is_listened_to(listening) -> None:
    address, accepted = listening
    assert talks(address, accepted)
    with pytest.raises(OSError, match="refused"):
        connect(address, KEY)


def test_a_listener_without_the_key_is_not_believed(monkeypatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.5)
    listener = KeyedListener("127.0.0.1", b"another key")
    threading.Thread(target=listener.accept, daemon=True).start()
    with pytest.raises((ConnectionError, TimeoutError)):
        connect(listener.address, KEY)
    connect(listener.address, b"another key").close()


def test_what_never_answers_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TimeoutError):
        connect(mute.getsockname()[:2], KEY)
