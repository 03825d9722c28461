"""Where runs are done: a Ray of this machine, or a running cluster; what it has, and what a run asks of it."""

import json
import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.cluster.config import RayConfig
from foundation.errors import UserError
from foundation.local_ray import local_ray, tame

_ROOT = Path(__file__).resolve().parents[2]
_CONNECT_SECONDS = 5.0
_SETTINGS = b"\x04"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
"""What an HTTP/2 client begins with (RFC 9113, 3.4); the server's first frame is one of settings too."""
_CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` writes the address of the cluster that a machine belongs to."""


@dataclass(frozen=True)
class Needs:
    """What a run asks of Ray: CPUs and GPUs on one node, and the CPUs of its environment actors on any nodes."""

    cpus: float = 1.0
    gpus: float | None = 0.0
    """None: an equal share of one."""
    actors: float = 0.0


def fitting(needs: Needs) -> int:
    """Return how many runs with such needs the living nodes of the cluster have room for at the same time."""
    nodes = _nodes()
    runs = sum(_on_node(node, needs) for node in nodes)
    total = sum(node.get("CPU", 0.0) for node in nodes)
    return min(runs, int(total / (needs.cpus + needs.actors) + 1e-6)) if needs.actors else runs


def shared_gpus(needs: Needs, runs: int) -> Needs:
    """Return the needs with an equal share of a GPU where they say None: all runs at the same time, as far as CPUs allow that."""
    if needs.gpus is not None:
        return needs
    gpus = sum(int(node.get("GPU", 0)) for node in _nodes())
    if not gpus:
        return replace(needs, gpus=1.0)
    at_once = min(runs, fitting(replace(needs, gpus=0.0)))
    return replace(needs, gpus=gpu_share(gpus, max(at_once, 1)))


def gpu_share(gpus: float, workers: int) -> float:
    """Return what part of one GPU each worker asks for: all workers fit at the same time, none across two GPUs."""
    return 1 / math.ceil(workers / int(gpus))


def check_needs(needs: Needs) -> None:
    """Raise `UserError` where the cluster can never give a run what it asks for."""
    if fitting(needs):
        return
    nodes = _nodes()
    there = f"{_count(len(nodes), 'node')} with " + ", ".join(_resources(node) for node in nodes)
    asked = _count(needs.cpus, "CPU") + (f" and {_count(needs.gpus, 'GPU')}" if needs.gpus else "") + " on one node"
    asked += f", and {_count(needs.actors, 'CPU')} for environment actors" if needs.actors else ""
    if needs.gpus and not any(node.get("GPU") for node in nodes):
        remedy = "leave out --ray.gpus, use --device cpu or auto, or join a node that has one"
    else:
        remedy = "lower --ray.cpus, --ray.gpus or --remote.actors, or join larger nodes"
    raise UserError(f"a run asks for {asked}; Ray has {there}: {remedy}")


def sends_code() -> bool:
    """Say whether workers have a working directory of their own, with a copy of this checkout's code."""
    import ray

    return "working_dir" in ray.get_runtime_context().runtime_env


@contextmanager
def ray_cluster(config: RayConfig, cpus: int) -> Iterator[None]:
    """Be connected to the cluster at `config.address` for the time of the block, or run a Ray of this machine with `cpus` CPUs.

    Raises `UserError` where a Ray does not start, a run asks for more CPUs than this machine has cores, or a cluster is not there, is
    not reached within seconds, or has other versions.
    """
    if config.address is None:
        if config.cpus > cores():
            raise UserError(f"a run asks for {_count(config.cpus, 'CPU')}; this machine has {_count(cores(), 'core')}: lower --ray.cpus")
        with local_ray(cpus):
            yield
        return
    _connect(reachable(config.address))
    try:
        yield
    finally:
        _disconnect()


def reachable(address: str) -> str:
    """Return the HOST:PORT that `address` means; raise `UserError` where nothing answers there within seconds."""
    if address == "auto":
        address = _current_cluster()
    if address.startswith("ray://"):
        host = address.removeprefix("ray://").rpartition(":")[0] or "HOST"
        raise UserError(
            f"{address}: Ray Client is not supported, because runs would end with its connection and could not see the results "
            "folder: start the command on a node of the cluster with --ray.address auto, or submit it: "
            f"ray job submit --address http://{host}:8265 --working-dir . -- python COMMAND --ray.address auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"'ray.address' must be auto or HOST:PORT, such as 10.0.0.1:6379, got '{address}'")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as connection:
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


def _nodes() -> list[dict[str, float]]:
    """Return the resources of the living nodes."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _on_node(node: dict[str, float], needs: Needs) -> int:
    room = int(node.get("CPU", 0.0) / needs.cpus + 1e-6)
    if not needs.gpus:
        return room
    gpus = int(node.get("GPU", 0.0))
    # fractions never lie across two GPUs
    on_gpus = gpus * int(1 / needs.gpus + 1e-6) if needs.gpus <= 1 else int(gpus / needs.gpus)
    return min(room, on_gpus)


def _resources(node: dict[str, float]) -> str:
    return _count(node.get("CPU", 0), "CPU") + (f" and {_count(node['GPU'], 'GPU')}" if node.get("GPU") else "")


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


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


def _disconnect() -> None:
    import ray

    ray.shutdown()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
