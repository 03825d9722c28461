"""Where runs are done: a Ray of this machine, or a running cluster; what it has, and what a run asks of it."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agents.cluster.config import RayConfig
from foundation.errors import UserError
from foundation.local_ray import local_ray
from foundation.ray_cluster import connected


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
    with connected(config.address):
        yield


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


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
