"""Connections of the embedded server whose clients send what is allowed, in ways that are rare."""

import asyncio
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.options import Serve
from tests.fixtures.service import binary_request, random_frames, with_limits

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def held(running: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have the encoder wait until the event that is given is set, at the end of the block at the latest."""
    loaded, go_on = running.service.models.served["plain"].loaded, threading.Event()
    encode = loaded.encode

    def waiting(*given: Any) -> Any:
        go_on.wait(60)
        return encode(*given)

    monkeypatch.setattr(loaded, "encode", waiting)
    try:
        yield go_on
    finally:
        go_on.set()


def infer(rows: int) -> bytes:
    body, length = binary_request(frames=random_frames(rows))
    head = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Inference-Header-Content-Length: {length}\r\n\r\n".encode() + body


def connect(running: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=20)


class Answers:
    """Reads answers from a connection one after the other."""

    def __init__(self, made: socket.socket) -> None:
        self.made, self.left = made, b""

    def next(self) -> bytes:
        """Return the next answer's head."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        head, _, self.left = self.left.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        while len(self.left) < length:
            self._more()
        self.left = self.left[length:]
        return head

    def _more(self) -> None:
        more = self.made.recv(65536)
        assert more, "the connection was closed"
        self.left += more


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_client_that_leaves_with_requests_unanswered_is_forgotten(start_service, small_encoders, monkeypatch, caplog) -> None:
    running = start_service(small_encoders["plain"], limits=with_limits(connections=2))
    silent = running.server.config.http_protocol_class.silent
    with held(running, monkeypatch), caplog.at_level(logging.WARNING):
        for _ in range(2):
            with connect(running) as made:
                made.sendall(infer(1) + infer(1))
                wait_for(lambda: running.server.server_state.tasks and not silent)
                # closes with a reset
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for(lambda: not running.server.server_state.connections)
    wait_for(lambda: not running.server.server_state.tasks)
    assert not silent
    assert [record.getMessage() for record in caplog.records] == []
    with connect(running) as made, connect(running) as other, connect(running) as third:
        for one in (other, third):
            one.sendall(GET)
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
        assert made.recv(1000).startswith(b"HTTP/1.1 503")


def test_an_empty_line_after_a_request_keeps_no_connection_open(start_service, small_encoders) -> None:
    running = start_service(small_encoders["plain"], limits=with_limits(header_seconds=0.3))
    with connect(running) as made:
        made.sendall(GET)
        assert made.recv(1000).startswith(b"HTTP/1.1 200")
        made.sendall(b"\r\n")
        while made.recv(1000):
            pass


def test_who_asks_a_second_time_to_end_does_not_wait_for_a_client(small_encoders: dict[str, Path]) -> None:
    pytest.importorskip("uvicorn")
    from service.models import Models
    from service.server import Running, listen, run
    from service.tokens import Tokens

    async def ends() -> None:
        started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        folder = small_encoders["plain"]
        options = Serve(runs=(folder,), limits=with_limits(body_seconds=60.0), drain_seconds=0.0)
        listening = listen("127.0.0.1", 0)
        serving = asyncio.ensure_future(run(options, Models([folder], "cpu"), Tokens(), listening, started.set_result, signals=False))
        running = await started
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(infer(1)[:-1])
        while not running.server.server_state.tasks:
            await asyncio.sleep(0.01)
        running.stop()
        while not running.server.should_exit:
            await asyncio.sleep(0.01)
        running.stop()
        await asyncio.wait_for(serving, 20.0)
        writer.close()

    asyncio.run(ends())


def test_a_header_that_comes_in_parts_behind_a_request_under_way_costs_no_answer(start_service, small_encoders, monkeypatch) -> None:
    running = start_service(small_encoders["plain"], limits=with_limits(header_seconds=1.0))
    with held(running, monkeypatch) as go_on, connect(running) as made:
        request = infer(8)
        # more of a body than a header may have
        made.sendall(request[:9000])
        wait_for(lambda: running.server.server_state.tasks)
        made.sendall(request[9000:] + GET[:20])
        # the next header's clock has not begun
        time.sleep(1.5)
        go_on.set()
        answered = Answers(made)
        assert answered.next().startswith(b"HTTP/1.1 200")
        made.sendall(GET[20:])
        assert answered.next().startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_header_behind_an_answer_is_not_waited_for(start_service, small_encoders) -> None:
    running = start_service(small_encoders["plain"], limits=with_limits(header_seconds=0.3))
    with connect(running) as made:
        made.sendall(GET + GET[:20])
        answered = Answers(made)
        assert answered.next().startswith(b"HTTP/1.1 200")
        assert answered.next().startswith(b"HTTP/1.1 408")
        assert made.recv(10) == b""


def test_a_header_without_end_behind_a_request_under_way_is_not_read(start_service, small_encoders, monkeypatch) -> None:
    running = start_service(small_encoders["plain"])
    with held(running, monkeypatch) as go_on, connect(running) as made:
        made.sendall(infer(1) + GET[:-2] + b"Cookie: ")
        made.settimeout(1.0)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 2**27:
                sent += made.send(b"a" * 2**18)
        made.settimeout(20.0)
        go_on.set()
        answered = Answers(made)
        assert answered.next().startswith(b"HTTP/1.1 200")
        assert answered.next().startswith(b"HTTP/1.1 431")
