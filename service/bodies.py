"""Reading a request's body without trusting it: its length before it is read, its time, and its size once decompressed."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from service.errors import ServiceError, bad_request, busy
from service.options import Limits

Receive = Callable[[], Awaitable[Any]]
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PIECE = 1 << 16
_IN_PLACE = 1 << 14
"""Bytes that are decompressed without leaving the event loop: they become a thousand times as many at most."""


class Disconnected(Exception):
    """The client has gone before its request was there."""


class Allowance:
    """The memory of requests that are being read or wait for their answers, over all transports."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0
        """Bytes."""

    @contextmanager
    def reserve(self, size: int = 0) -> Iterator["Held"]:
        """Hold so many bytes for one request, more or fewer as it goes on; raises what `Held.to` does."""
        held = Held(self)
        try:
            held.to(size)
            yield held
        finally:
            self.held -= held.size

    def allows(self, held: "Held", size: int) -> bool:
        """Whether a request may hold so many bytes: alone, it always may."""
        others = self.held - held.size
        return not others or others + size <= self._most


class Held:
    """What one request holds of the memory: what has come of it, not what it says will come, which may be a lie."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self.size = 0
        """Bytes."""

    def to(self, size: int) -> None:
        """Hold so many bytes from now on; raise `ServiceError` where others hold too much."""
        if size > self.size and not self._allowance.allows(self, size):
            raise busy("the service is reading as many requests as it has memory for; try again")
        self._allowance.held += size - self.size
        self.size = size


class Bodies:
    """Reads bodies of HTTP."""

    def __init__(self, limits: Limits, allowance: Allowance) -> None:
        self._limits, self._allowance = limits, allowance
        self._beside = ThreadPoolExecutor(1, "decompressing")

    @asynccontextmanager
    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> AsyncIterator[bytes | bytearray]:
        """Yield a request's body, decompressed; raise `ServiceError` for what is too large, too late or damaged."""
        announced = _content_length(headers)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b"gzip", b"deflate"):
            raise ServiceError(415, f"Content-Encoding {encoding.decode('latin-1')}: use gzip, deflate or none")
        most = self._limits.body_bytes
        if announced is not None and announced > most:
            raise ServiceError(413, f"the body has {announced} bytes, and at most {most} are taken; send fewer rows at a time")
        with self._allowance.reserve() as held:
            body: bytes | bytearray = await self._received(receive, announced, held)
            if encoding != b"identity":
                # what may become of it
                held.to(len(body) + most)
                body = await self._decompressed(body)
                held.to(len(body))
            yield body

    async def _received(self, receive: Receive, announced: int | None, held: Held) -> bytes:
        limits, parts, size = self._limits, [], 0
        end = time.monotonic() + limits.request_seconds
        while True:
            try:
                async with asyncio.timeout(min(limits.body_seconds, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                of = "" if announced is None else f" of {announced}"
                raise ServiceError(408, f"{size}{of} bytes of the body came, and then nothing for too long") from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limits.body_bytes:
                raise ServiceError(413, f"the body has more than the {limits.body_bytes} bytes that are taken; send fewer rows at a time")
            held.to(size)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _decompressed(self, body: bytes | bytearray) -> bytearray:
        if len(body) <= _IN_PLACE:
            return decompress(body, self._limits.body_bytes)
        return await asyncio.get_running_loop().run_in_executor(self._beside, decompress, body, self._limits.body_bytes)


def decompress(body: bytes | bytearray, most: int) -> bytearray:
    """Return the content of a gzip or zlib stream; raise `ServiceError` for one that is damaged or has more than `most` bytes.

    Piece by piece: in one call, the content would be in memory twice.
    """
    stream, content = zlib.decompressobj(_GZIP_OR_ZLIB), bytearray()
    for at in range(0, len(body), _PIECE):
        piece, made = body[at : at + _PIECE], _PIECE
        if stream.eof:
            raise bad_request("the compressed body has bytes behind its end")
        while piece or made == _PIECE:
            try:
                found = stream.decompress(piece, _PIECE)
            except zlib.error as error:
                raise bad_request(f"the body is no gzip or zlib stream ({error})") from error
            content += found
            if len(content) > most:
                raise ServiceError(413, f"the body has more than {most} bytes once decompressed; send fewer rows at a time")
            piece, made = stream.unconsumed_tail, len(found)
    if not stream.eof:
        raise bad_request("the compressed body ends too early")
    if stream.unused_data:
        raise bad_request(f"the compressed body has {len(stream.unused_data)} bytes behind its end")
    return content


def compress(parts: list[bytes | memoryview], encoding: str) -> bytes:
    """Return parts of an answer as one gzip or zlib stream."""
    stream = zlib.compressobj(1, wbits=zlib.MAX_WBITS + (16 if encoding == "gzip" else 0))
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def _content_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 20:
        raise bad_request("Content-Length must be a whole number")
    return int(text)
