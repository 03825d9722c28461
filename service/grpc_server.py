"""The service over gRPC: thin methods on the same core as HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from foundation.errors import UserError
from service.core import Service
from service.errors import ServiceError, refusal_of
from service.grpc_messages import MESSAGES, SERVICE, parse, read_request, write_answer
from service.http_app import access_line
from service.tokens import Tokens

_MOST_IN_A_STREAM = 32
"""Requests of one stream that are at work at a time."""
_FREE = ("ServerLive", "ServerReady")
"""Methods that need no token: they tell nothing."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class GrpcService:
    """The methods of `inference.GRPCInferenceService`. They parse bytes themselves: a damaged message is the client's error."""

    def __init__(self, service: Service, tokens: Tokens, access_log: bool = False) -> None:
        self.service, self.tokens, self.access_log = service, tokens, access_log

    def handler(self) -> Any:
        """Return what a gRPC server routes to."""
        answers: dict[str, Callable[[Any, Any, str], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "ModelStatistics": self._statistics,
        }
        written = {"response_serializer": lambda message: message.SerializeToString()}
        methods = {name: grpc.unary_unary_rpc_method_handler(self._answering(name, answer), **written) for name, answer in answers.items()}
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream, **written)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _answering(self, name: str, answer: Callable[[Any, Any, str], Awaitable[Any]]) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def method(content: bytes, context: Any) -> Any:
            begun, status = time.perf_counter(), "OK"
            try:
                owner = "" if name in _FREE else self._owner(context)
                with self.service.allowance.reserve(len(content)):
                    return await answer(parse(f"{name}Request", content), context, owner)
            except Exception as error:
                status, text = self._told(error)
                await context.abort(grpc.StatusCode[status], text)
            finally:
                if self.access_log:
                    access_line(context.peer(), f"gRPC {name}", status, begun)

        return method

    def _told(self, error: Exception) -> tuple[str, str]:
        """Return the code and the text that a refused request gets, having counted it where no model has."""
        refused = refusal_of(error)
        code = _CODES.get(refused.status, grpc.StatusCode.UNKNOWN).name
        if not refused.counted:
            self.service.refused("grpc", code)
        return code, str(refused)

    def _owner(self, context: Any) -> str:
        return self.tokens.owner(dict(context.invocation_metadata() or ()).get("authorization"))

    async def _live(self, message: Any, context: Any, owner: str) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, message: Any, context: Any, owner: str) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self.service.ready)

    async def _model_ready(self, message: Any, context: Any, owner: str) -> Any:
        return MESSAGES["ModelReadyResponse"](ready=self.service.model_ready(message.name, message.version))

    async def _server_metadata(self, message: Any, context: Any, owner: str) -> Any:
        told = self.service.server_metadata()
        return MESSAGES["ServerMetadataResponse"](**{name: told[name] for name in ("name", "version", "extensions")})

    async def _model_metadata(self, message: Any, context: Any, owner: str) -> Any:
        return MESSAGES["ModelMetadataResponse"](**self.service.model_metadata(message.name, message.version))

    async def _statistics(self, message: Any, context: Any, owner: str) -> Any:
        return MESSAGES["ModelStatisticsResponse"](**self.service.statistics(message.name, message.version))

    async def _infer(self, message: Any, context: Any, owner: str) -> Any:
        return write_answer(await self.service.infer(read_request(message, context.time_remaining()), owner))

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """Answer the requests of a stream in their order; several are at work at a time."""
        try:
            owner = self._owner(context)
        except ServiceError as error:
            status, text = self._told(error)
            await context.abort(grpc.StatusCode[status], text)
            return
        working: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(_MOST_IN_A_STREAM)

        async def read() -> None:
            async for content in requests:
                await working.put(asyncio.ensure_future(self._streamed(content, owner)))
            await working.put(None)

        reading = asyncio.ensure_future(read())
        try:
            while (task := await working.get()) is not None:
                yield await task
        finally:
            reading.cancel()
            while not working.empty():
                if left := working.get_nowait():
                    left.cancel()

    async def _streamed(self, content: bytes, owner: str) -> Any:
        begun, status = time.perf_counter(), "OK"
        response = MESSAGES["ModelStreamInferResponse"]()
        try:
            with self.service.allowance.reserve(len(content)):
                message = parse("ModelInferRequest", content)
                response.infer_response.id = message.id
                response.infer_response.CopyFrom(write_answer(await self.service.infer(read_request(message, None), owner)))
        # one request's error is told in its place, and the stream goes on
        except Exception as error:
            status, response.error_message = self._told(error)
        if self.access_log:
            access_line("-", "gRPC ModelStreamInfer", status, begun)
        return response


def grpc_server(
    service: Service, tokens: Tokens, address: tuple[str, int], tls: tuple[Path, Path] | None, access_log: bool
) -> tuple[Any, int]:
    """Return a server that is bound but not started, and its port; raise `UserError` where the address is taken."""
    limits = service.limits
    options = [
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        # without this, a second service would share the port, and get half of the requests
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=limits.connections)
    server.add_generic_rpc_handlers((GrpcService(service, tokens, access_log).handler(),))
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return server, server.add_insecure_port(where)
        certificate, key = tls
        return server, server.add_secure_port(where, grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    except RuntimeError as error:
        raise UserError(f"{where}: gRPC cannot listen there; choose another --host or --grpc-port") from error
