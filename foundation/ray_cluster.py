"""A Ray cluster of the user's own: where it is, whether it answers, and this project's code on its nodes."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import UserError
from foundation.local_ray import tame

_ROOT = Path(__file__).resolve().parents[1]
_CONNECT_SECONDS = 5.0
_SETTINGS = b"\x04"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
"""What an HTTP/2 client begins with (RFC 9113, 3.4); the server's first frame is one of settings too."""
_CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` writes the address of the cluster that a machine belongs to."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to the cluster at `address` for the time of the block; its workers have this checkout's code.

    Raises `UserError` where no cluster answers within seconds, this machine is none of its nodes, or it has other versions.
    """
    import ray

    _connect(reachable(address))
    try:
        yield
    finally:
        ray.shutdown()


def reachable(address: str) -> str:
    """Return the HOST:PORT that `address` means; raise `UserError` where nothing answers there within seconds."""
    if address == "auto":
        address = _current_cluster()
    if address.startswith("ray://"):
        host = address.removeprefix("ray://").rpartition(":")[0] or "HOST"
        raise UserError(
            f"{address}: Ray Client is not supported, because what runs would end with its connection and could not see this "
            "command's folders: start the command on a node of the cluster with --ray.address auto, or submit it: "
            f"ray job submit --address http://{host}:8265 --working-dir . -- python COMMAND --ray.address auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"'ray.address' must be auto or HOST:PORT, such as 10.0.0.1:6379, got '{address}'")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as connection:
            # with TLS nobody would understand it
            if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
                _greet(connection)
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): check that its head node runs (ray status) "
            "and that its port is open from here"
        ) from error
    return address


def _greet(connection: socket.socket) -> None:
    """Raise `OSError` where what answers is no gRPC server, as Ray's head node is one: Ray would wait for it for minutes."""
    connection.sendall(_PREFACE)
    frame = connection.recv(9, socket.MSG_WAITALL)
    if frame[3:4] != _SETTINGS:
        raise OSError("what listens there is no Ray")


def _current_cluster() -> str:
    """Return the address of the cluster that this machine belongs to."""
    address = os.environ.get("RAY_ADDRESS") or (_CURRENT.read_text().strip() if _CURRENT.is_file() else "")
    if not address:
        raise UserError(
            "--ray.address auto: this machine belongs to no Ray cluster; start one with `ray start --head`, join one with "
            "`ray start --address HOST:6379`, or leave --ray.address out"
        )
    return address


def _connect(address: str) -> None:
    import ray

    tame()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_runtime_env())
    except Exception as error:  # of many kinds: versions, a machine that is no node, a package too large
        message = _line(error)
        if "ersion mismatch" in message:
            remedy = "install the same versions of Python and Ray on all nodes"
        else:
            remedy = f"the command must run on a node of the cluster: ray start --address {address}"
        raise UserError(f"the Ray cluster at {address} cannot be used ({message}): {remedy}") from error


def _runtime_env() -> dict[str, Any]:
    """Return what workers on other nodes need: this checkout's code, and nothing of its data."""
    rooms = sorted(path.parent.name for path in _ROOT.glob("*/__init__.py"))
    # the first keeps the checkout itself, which /* leaves out too
    kept = [f"!/{name}" for name in (".", *rooms, "configs", "*.py")]
    wanted = {"working_dir": str(_ROOT), "excludes": ["/*", *kept, "__pycache__"]}
    # `ray job submit --working-dir` has sent the code already, and Ray refuses to be told twice
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}").get("runtime_env") or {}
    return {} if "working_dir" in job else wanted


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
