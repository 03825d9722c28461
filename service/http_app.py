"""The service as an ASGI application: run by any ASGI server, here by the embedded one, on clusters by Ray Serve."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from foundation.errors import in_one_line
from foundation.progress import say
from service.bodies import Bodies, Disconnected, Receive, compress
from service.core import Service
from service.errors import ServiceError, bad_request, refusal_of
from service.http_messages import read_request, write_answer
from service.messages import Answer, InferRequest
from service.origins import is_own_page, names_this_machine
from service.page import page
from service.tokens import Tokens

Send = Callable[[Any], Awaitable[None]]
HEADER_LENGTH = b"inference-header-content-length"
_LINGER_SECONDS = 2.0
"""How long an unwanted body is still taken in, so that the answer is read before the connection goes."""
_COMPRESSED_FROM = 1024
_IN_PLACE = 1 << 14
"""Bytes of tensors that become JSON, or are compressed, without leaving the event loop: a few milliseconds."""
_BODY_TYPES = ("application/json", "application/octet-stream", "application/x-www-form-urlencoded")
"""The last is what curl says of a body when nobody tells it otherwise."""
_FREE = (("v2", "health", "live"), ("v2", "health", "ready"), ())
"""Routes that need no token: they tell nothing."""


class Exchange:
    """One request and its response."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.client = (scope.get("client") or ("-",))[0]
        self.receive, self._send = receive, send
        self.unread = self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers
        """Whether a body may still be coming."""
        self.closing = False
        self.status = 0

    async def respond(self, status: int, parts: Sequence[bytes | memoryview], headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status = status
        ending = [(b"connection", b"close")] if self.unread or self.closing else []
        length = sum(len(part) for part in parts)
        all_headers = [(b"content-length", b"%d" % length), *headers, *ending]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        for index, part in enumerate(parts):
            await self._send({"type": "http.response.body", "body": part, "more_body": index + 1 < len(parts) or self.unread})
        if self.unread:
            await self._linger()

    async def respond_json(self, status: int, value: Any, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        await self.respond(status, [json.dumps(value).encode()], [(b"content-type", b"application/json"), *headers])

    async def refuse(self, error: ServiceError) -> None:
        retry = [] if error.retry_after is None else [(b"retry-after", b"%d" % error.retry_after)]
        scheme = [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
        await self.respond_json(error.status, {"error": str(error)}, [*retry, *scheme])

    async def _linger(self) -> None:
        # a connection closed with bytes unread takes the answer with it
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        break
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class HttpApplication:
    """ASGI: the Open Inference Protocol v2 over HTTP, with metrics and a page for people beside it."""

    def __init__(self, service: Service, tokens: Tokens, access_log: bool = False) -> None:
        self.service, self.tokens, self.access_log = service, tokens, access_log
        self.bodies = Bodies(service.limits, service.allowance)
        self._beside = ThreadPoolExecutor(1, "writing")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = time.perf_counter()
        exchange = Exchange(scope, receive, send)
        exchange.closing = not self.service.ready
        try:
            await self._answered(exchange)
        except Disconnected:
            exchange.status = 499
        if self.access_log:
            access_line(exchange.client, f"{exchange.method} {exchange.path}", exchange.status, begun)

    async def _answered(self, exchange: Exchange) -> None:
        try:
            await self._route(exchange)
        except Disconnected:
            raise
        # whatever goes wrong in one request, the next is answered
        except Exception as error:
            await self._refuse(exchange, refusal_of(error))

    async def _refuse(self, exchange: Exchange, refused: ServiceError) -> None:
        if not refused.counted:
            self.refused(refused.status)
        if not exchange.status:
            await exchange.refuse(refused)

    def refused(self, status: int) -> None:
        """Count a request that is answered with an error before it came to a model."""
        self.service.refused("http", str(status))

    async def _route(self, exchange: Exchange) -> None:
        route = tuple(part for part in exchange.path.split("/") if part)
        owner = "" if route in _FREE else self._owner(exchange)
        if route[:1] == ("v2",) and route[-1] == "infer" and (model := _model_of(route[:-1])):
            _allow(exchange, "POST")
            return await self._infer(exchange, *model, owner)
        answered = self._looked_up(route)
        if answered is None:
            raise ServiceError(404, f"no route {in_one_line(exchange.path)}; GET /v2 names the models, docs/service.md the routes")
        _allow(exchange, "GET", "HEAD")
        return await answered(exchange)

    def _owner(self, exchange: Exchange) -> str:
        host = exchange.headers.get(b"host", b"")
        if not is_own_page(exchange.headers.get(b"origin"), host):
            raise ServiceError(403, "this page may not ask the service; open the service's own page at /")
        # without a token the service listens on loopback alone: any --host that it can have been given is such a name
        if self.tokens.let_everybody_in and not names_this_machine(host):
            asked = f"without a token the service is asked as localhost or 127.0.0.1, and not as '{in_one_line(host.decode('latin-1'))}'"
            raise ServiceError(403, f"{asked}; start it with --token-file where another name or a proxy leads to it")
        return self.tokens.owner(exchange.headers.get(b"authorization", b"").decode("latin-1"))

    def _looked_up(self, route: tuple[str, ...]) -> Callable[[Exchange], Awaitable[None]] | None:
        """Return what answers a route that is only looked at; None where there is no such route."""
        service = self.service
        if route == ():
            content, headers = page()
            return lambda exchange: exchange.respond(200, [content], headers)
        if route == ("v2",):
            return lambda exchange: exchange.respond_json(200, service.server_metadata())
        if route == ("v2", "health", "live"):
            return lambda exchange: exchange.respond_json(200, {"live": True})
        if route == ("v2", "health", "ready"):
            return lambda exchange: exchange.respond_json(200 if service.ready else 503, {"ready": service.ready})
        if route == ("metrics",):
            text = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
            return lambda exchange: exchange.respond(200, [service.metrics().encode()], text)
        if route == ("v2", "models", "stats"):
            return lambda exchange: exchange.respond_json(200, service.statistics())
        if model := _model_of(route):
            name, version = model
            return lambda exchange: exchange.respond_json(200, service.model_metadata(name, version))
        if not route or not (model := _model_of(route[:-1])):
            return None
        name, version = model
        if route[-1] == "ready":
            return lambda exchange: exchange.respond_json(200 if service.model_ready(name, version) else 503, {"ready": service.ready})
        if route[-1] == "stats":
            return lambda exchange: exchange.respond_json(200, service.statistics(name, version))
        return None

    async def _infer(self, exchange: Exchange, model: str, version: str, owner: str) -> None:
        self.service.models.find(model, version)
        kind = exchange.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind and kind not in _BODY_TYPES:
            raise ServiceError(415, f"Content-Type {in_one_line(kind)}: use application/json or application/octet-stream")
        async with self.bodies.read(exchange.headers, exchange.receive) as body:
            exchange.unread = False
            length, limits = _header_length(exchange.headers), self.service.limits
            request = read_request(body, length, model, version, min(limits.json_bytes, limits.body_bytes // 32))
            answer = await self.service.infer(request, owner)
        encoding = _accepted(exchange.headers)
        slow = sum(array.nbytes for name, array in answer.outputs.items() if encoding or not request.is_binary(name))
        if slow <= _IN_PLACE:
            content, headers = _written(answer, request, encoding)
        else:
            content, headers = await asyncio.get_running_loop().run_in_executor(self._beside, _written, answer, request, encoding)
        await exchange.respond(200, [content], headers)


def access_line(client: str, what: str, status: int | str, begun: float) -> None:
    """Print one request: who, what, the code it got, and its milliseconds."""
    milliseconds = 1000 * (time.perf_counter() - begun)
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    say(f"{when} {client} {in_one_line(what, 200)} {status} {milliseconds:.1f} ms")


def _written(answer: Answer, request: InferRequest, encoding: str) -> tuple[bytes | memoryview, list[tuple[bytes, bytes]]]:
    """Return a response's body and headers."""
    parts, json_bytes = write_answer(answer, request)
    headers = [(b"content-type", b"application/json" if json_bytes is None else b"application/octet-stream")]
    if json_bytes is not None:
        headers.append((HEADER_LENGTH, b"%d" % json_bytes))
    if encoding and sum(len(part) for part in parts) >= _COMPRESSED_FROM:
        parts = [compress(parts, encoding)]
        headers.append((b"content-encoding", encoding.encode()))
    return b"".join(parts) if len(parts) > 1 else parts[0], headers


def _model_of(route: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the name and version in v2/models/NAME[/versions/VERSION]; None for other routes."""
    if route[:2] != ("v2", "models"):
        return None
    if len(route) == 3 and route[2] != "stats":
        return route[2], ""
    if len(route) == 5 and route[3] == "versions":
        return route[2], route[4]
    return None


def _allow(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        raise ServiceError(405, f"{in_one_line(exchange.method)} {in_one_line(exchange.path)}: use {methods[0]}")


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 20:
        raise bad_request("Inference-Header-Content-Length must be a whole number")
    return int(text)


def _accepted(headers: Mapping[bytes, bytes]) -> str:
    """Return the compression that a client asks for, "" for none."""
    offered = [part.partition(b";")[0].strip().lower() for part in headers.get(b"accept-encoding", b"").split(b",")]
    return next((name for name in ("gzip", "deflate") if name.encode() in offered), "")
