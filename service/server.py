"""Running the service: listening, looking for new weights, and ending without losing a request."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
import uvicorn

from foundation.errors import UserError
from foundation.progress import say
from service.connections import server_config
from service.core import Service
from service.http_app import HttpApplication
from service.models import Models
from service.options import Serve
from service.tokens import Tokens
from service.upkeep import device_of, prepare_process, say_served, url_host, watch

_HANDSHAKE_SECONDS = 5.0
_BACKLOG = 1024
_LAST_ACCEPTED_SECONDS = 0.1


class EmbeddedServer(uvicorn.Server):
    """Uvicorn without handlers of its own for signals, and with a deadline for TLS's handshakes."""

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config, loop = self.config, asyncio.get_running_loop()
        handshake: dict[str, Any] = {"ssl": config.ssl, "ssl_handshake_timeout": _HANDSHAKE_SECONDS} if config.ssl else {}

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(config=config, server_state=self.server_state, app_state={})  # type: ignore[call-arg]

        self.servers = [await loop.create_server(protocol, sock=one, backlog=_BACKLOG, **handshake) for one in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # a socket that is closed resets connections that nobody has accepted yet: let no more come, and accept those
        for one in sockets or ():
            one.listen(0)
        await asyncio.sleep(_LAST_ACCEPTED_SECONDS)
        await super().shutdown(sockets)

    def break_off(self) -> None:
        """Wait for nobody any more."""
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class Running:
    """A service that listens: its ports, and how it is asked to end."""

    def __init__(self, service: Service, server: EmbeddedServer, port: int, grpc_port: int | None, drain_seconds: float) -> None:
        self.service, self.server, self.port, self.grpc_port = service, server, port, grpc_port
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Be not ready any more, go on for a while, then answer what was accepted and end.

        A second call does not go on for a while, and one while the end waits for answers or connections breaks them off.
        """
        if self.server.should_exit:
            self.server.break_off()
            return
        if not self.service.ready:
            self.server.should_exit = True
            return
        self.service.ready = False
        self._loop.call_later(self._drain_seconds, self._end)

    def stop_from_outside(self) -> None:
        """Do so from another thread than the service's."""
        self._loop.call_soon_threadsafe(self.stop)

    def _end(self) -> None:
        self.server.should_exit = True


def serve_forever(options: Serve, tokens: Tokens) -> None:
    """Serve until SIGTERM or SIGINT; raises `UserError` for encoders that cannot be loaded and addresses that are taken."""
    torch.set_num_threads(options.threads)
    models = Models(options.runs, device_of(options.device))
    listening = listen(options.host, options.port)
    with listening:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(options, models, tokens, listening, _announce(options)))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop: uvloop's where it is installed, which takes half the time of Python's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def run(
    options: Serve, models: Models, tokens: Tokens, listening: socket.socket, started: Callable[[Running], None], signals: bool = True
) -> None:
    """Serve on a socket until the service is stopped; `started` is called once it listens."""
    prepare_process()
    loop = asyncio.get_running_loop()
    service = Service(models, options.limits, options.batching, loop)
    app = HttpApplication(service, tokens, options.access_log)
    certificate, key = (None if path is None else str(path) for path in (options.certificate, options.key))
    server = EmbeddedServer(server_config(app, options.limits, certificate, key))
    beside, grpc_port = _bound_grpc(options, service, tokens)
    running = Running(service, server, listening.getsockname()[1], grpc_port, options.drain_seconds)
    if signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.stop)
    watching = asyncio.ensure_future(watch(service, options.watch_seconds))
    serving = asyncio.ensure_future(server.serve([listening]))
    try:
        if beside is not None:
            await beside.start()
        while not server.started and not serving.done():
            await asyncio.sleep(0.001)
        if server.started:
            started(running)
        await serving
        if beside is not None:
            await beside.stop(options.limits.answer_seconds)
    finally:
        watching.cancel()
        service.close()


def _bound_grpc(options: Serve, service: Service, tokens: Tokens) -> tuple[Any, int | None]:
    if options.grpc_port is None:
        return None, None
    # an optional door: its library takes a second to import
    from service.grpc_server import grpc_server

    tls = None if options.certificate is None or options.key is None else (options.certificate, options.key)
    return grpc_server(service, tokens, (options.host, options.grpc_port), tls, options.access_log)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; raise `UserError` where it cannot be."""
    try:
        found: Iterable[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = next(iter(found))
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(address)
        except OSError:
            made.close()
            raise
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port}: cannot be listened at ({error}); choose another --host or --port") from error
    return made


def _announce(options: Serve) -> Callable[[Running], None]:
    def say_where(running: Running) -> None:
        say_served(options, running.service.models, running.port, device_of(options.device))
        if running.grpc_port is not None:
            say(f"gRPC at {url_host(options.host)}:{running.grpc_port}")

    return say_where
