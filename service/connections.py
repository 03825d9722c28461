"""Connections of the embedded server: deadlines and counts that its own protocol class does not have, and errors as JSON."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.options import Limits

_MOST_HEADER_BYTES = 2**16
_LAST_SECONDS = 0.25
"""How long a connection without a request stays open when the service ends."""
_INTERIM = b"HTTP/1.1 100 "
_READ_AHEAD = 2**18
"""Bytes of a body that are taken in before the application asks for them: what one read from a socket brings at most."""


def limited_protocol(limits: Limits, refused: Callable[[int], None]) -> type[HttpToolsProtocol]:
    """Return the protocol class of a server whose connections keep to these limits; `refused` is told each code they refuse with."""

    class Connection(LimitedConnection):
        silent: OrderedDict["LimitedConnection", None] = OrderedDict()

    Connection.limits = limits
    Connection.count_refused = staticmethod(refused)
    return Connection


class LimitedConnection(HttpToolsProtocol):
    """Ends a connection whose header does not come, whose answer nobody reads, and the oldest silent one where there are too many."""

    limits: Limits
    count_refused: Callable[[int], None]
    silent: OrderedDict["LimitedConnection", None]
    """Connections that wait for a request's header, the oldest first."""
    _header_deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    """Of a header that is there in part."""
    _in_header = True
    """Whether what comes next is of a header, not of a body."""

    transport: "OneWrite"  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport))  # type: ignore[arg-type]
        self.silent[self] = None
        self._wait_for_header(self.limits.header_seconds)
        if len(self.connections) > self.limits.connections:
            oldest = next(iter(self.silent))
            oldest.refuse(503, "the service has more connections than it takes; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        self.silent.pop(self, None)
        for timer in (self._header_deadline, self._write_deadline):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)
        too_many = self._header_bytes > _MOST_HEADER_BYTES
        if self not in self.silent:
            # of a request behind the one under way, no more is read until that is answered
            if too_many:
                self.flow.pause_reading()
        elif too_many:
            self.refuse(431, f"the header has more than {_MOST_HEADER_BYTES} bytes")
        elif self._header_deadline is None:
            # most come as a whole, and need no clock; empty lines are of no header, and end the server's own clock all the same
            self._wait_for_header(self.limits.header_seconds)

    def on_message_begin(self) -> None:
        # of one that begins in the middle of what was read, what that has is not known
        self._header_bytes = max(1, self._header_bytes)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_header, self._header_bytes = False, 0
        self.silent.pop(self, None)
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # the server's own stops reading after 64 KiB, which costs three turns of the event loop for 8 frames
        if self.cycle.response_complete:
            return
        if not self.cycle.body:
            # not copied: mostly it is the whole
            self.cycle.body = body  # type: ignore[assignment]
        else:
            if isinstance(self.cycle.body, bytes):
                self.cycle.body = bytearray(self.cycle.body)
            self.cycle.body += body
        if len(self.cycle.body) > _READ_AHEAD:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_header = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.transport.end()
        # not one whose client has gone, or has sent the next request already
        if not self.transport.is_closing() and not self.pipeline:
            self.silent[self] = None
            if self._header_bytes:
                self._wait_for_header(self.limits.header_seconds)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.call_later(self.limits.request_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    def shutdown(self) -> None:
        # a request may be on its way: it is answered, and the connection closed with its answer
        if self in self.silent:
            self.loop.call_later(_LAST_SECONDS, self._close_if_silent)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "this is no HTTP request")

    def refuse(self, status: int, text: str) -> None:
        """Send an error that no application could, and close."""
        if self.transport.is_closing():
            return
        self.count_refused(status)
        body = json.dumps({"error": text}).encode()
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        head = b"content-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n" % (len(body), retry)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def _wait_for_header(self, seconds: float) -> None:
        self._header_deadline = self.loop.call_later(seconds, self._late)

    def _close_if_silent(self) -> None:
        if self in self.silent and not self._header_bytes:
            self.transport.close()

    def _late(self) -> None:
        if self._header_bytes:
            self.refuse(408, f"the request's header was not there within {self.limits.header_seconds:g} s")
        else:
            self.transport.close()


class OneWrite:
    """A transport that sends the head of a response together with the first of its body: two calls of the system take twice as long."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self.is_closing():
            # nobody reads it, and uvloop's raises
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        elif not self._begun and not data.startswith(_INTERIM):
            self._head, self._begun = data, True
            return
        self._transport.write(data)

    def end(self) -> None:
        """Send a head that no body follows; the next thing written is the head of another response."""
        if self._head is not None and not self.is_closing():
            self._transport.write(self._head)
        self._head, self._begun = None, False

    def close(self) -> None:
        self.end()
        self._transport.close()


def server_config(app: Any, limits: Limits, certificate: str | None, key: str | None) -> Any:
    """Return how the embedded server runs the application: no log of its own, no WebSockets, these limits."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=limited_protocol(limits, app.refused),
        ws="none",
        lifespan="off",
        interface="asgi3",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(limits.idle_seconds),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
