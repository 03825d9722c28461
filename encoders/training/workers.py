"""One training on several GPUs or nodes: a Ray worker each, that meet in a group of PyTorch's processes.

Ray is local, and the group then meets in a file and exchanges gradients over loopback; or it is the cluster that the environment's
RAY_ADDRESS names: there, the checkout, the store and the run's folder have to be at the same place on every node.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from encoders.training.devices import AskedToStop
from encoders.training.parallel import Ranks, join, leave
from encoders.training.signals import stop_requests
from foundation.errors import UserError
from foundation.local_ray import local_ray
from foundation.progress import console, say

Work = Callable[[Any, str, Ranks, AskedToStop], None]

_ROOT = Path(__file__).resolve().parents[2]
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
_OVER_LOOPBACK = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
_POLL_SECONDS = 0.3
_ASK_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_GOES_ON = "the last checkpoint is kept: the same command goes on from it"


def run_workers(work: Work, argument: Any, workers: int, device: str) -> None:
    """Call `work(argument, device, ranks, asked_to_stop)` in `workers` Ray workers at once, each with a GPU of its own or on the CPU.

    What the first of them says is shown here. SIGINT and SIGTERM reach the workers by `asked_to_stop`. Raises what they raise:
    `UserError`, or `SystemExit` once they have stopped as asked. One that dies ends all of them with a `UserError`.
    """
    check_workers(workers, device)
    with _ray(workers) as folder:
        import ray

        chosen = _device(workers, device)
        with stop_requests() as stop:
            try:
                _Workers(workers, chosen, folder).do(work, argument, lambda: stop.number)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                # a signal to the whole group of processes ends Ray itself
                raise UserError(f"Ray ended while the workers were running ({_first_line(error)}); {_GOES_ON}") from error


def check_workers(workers: int, device: str) -> None:
    """Raise `UserError` for what can be told before Ray is started."""
    if workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: with --workers {workers} each worker has its own device; use auto, cpu or cuda")
    if "RAY_ADDRESS" not in os.environ:
        _gpus_for(workers, device, torch.cuda.device_count())


class Board:
    """Where the first worker puts what it says, and where all learn that they are to stop."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.signal: int | None = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def read(self) -> list[str]:
        said, self.said = self.said, []
        return said

    def stop(self, number: int) -> None:
        self.signal = number

    def asked(self) -> int | None:
        return self.signal


class Worker:
    """One process of the group."""

    def address(self) -> str:
        """Return where the processes may meet: a free port of this node."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        import ray

        return f"tcp://{ray.util.get_node_ip_address()}:{port}"

    def do(self, work: Work, argument: Any, rank: int, size: int, address: str, device: str, folder: str, board: Any) -> Any:
        """Do the work and return how it ended: None, a `UserError`, or a `SystemExit`'s status."""
        os.chdir(folder)
        console.file = _Lines(board if rank == 0 else None)  # type: ignore[assignment]
        try:
            work(argument, device, join(rank, size, address, torch.device(device)), _Asking(board))
        except UserError as error:
            return error
        except SystemExit as stopped:
            return stopped.code
        finally:
            leave()
        return None


class _Lines:
    """A file that sends every line to the board, or nowhere."""

    def __init__(self, board: Any) -> None:
        self.board, self.part = board, ""

    def write(self, text: str) -> int:
        *lines, self.part = (self.part + text).split("\n")
        for line in lines if self.board is not None else ():
            self.board.say.remote(line)
        return len(text)

    def flush(self) -> None:
        """Lines are sent as they come."""

    def isatty(self) -> bool:
        return False


class _Asking:
    """Ask the board whether to stop, once a second."""

    def __init__(self, board: Any) -> None:
        self.board, self.asked_at = board, time.monotonic()

    def __call__(self) -> int | None:
        if time.monotonic() - self.asked_at < _ASK_SECONDS:
            return None
        import ray

        self.asked_at = time.monotonic()
        return ray.get(self.board.asked.remote())


class _Workers:
    """The driver's side: start, watch, end."""

    def __init__(self, count: int, device: str, folder: Path | None) -> None:
        import ray

        self.device, self.folder = device, folder
        self.board: Any = ray.remote(num_cpus=0)(Board).remote()
        actor: Any = ray.remote(num_cpus=1, num_gpus=1 if device == "cuda" else 0)(Worker)
        self.workers = [actor.remote() for _ in range(count)]

    def do(self, work: Work, argument: Any, stop_number: AskedToStop) -> None:
        import ray

        # a meeting point of PyTorch's that listens does so on all interfaces, and asks nobody who he is
        address = ray.get(self.workers[0].address.remote()) if self.folder is None else f"file://{self.folder / 'meeting'}"
        shared = (len(self.workers), address, self.device, os.getcwd(), self.board)
        running = {worker.do.remote(work, argument, rank, *shared): rank for rank, worker in enumerate(self.workers)}
        asked, outcomes = False, dict[int, Any]()
        while running and not any(outcomes.values()):
            self._collect(running, outcomes, _POLL_SECONDS)
            if not asked and (number := stop_number()) is not None:
                asked = True
                self.board.stop.remote(number)
            self._show()
        # the others of one that has failed fail too, or wait for it for ever
        self._collect(running, outcomes, _GRACE_SECONDS, len(running) or 1)
        self._show()
        for worker in self.workers:
            ray.kill(worker)
        _raise_first(outcomes, len(self.workers))

    def _collect(self, running: dict[Any, int], outcomes: dict[int, Any], seconds: float, count: int = 1) -> None:
        import ray

        ready = ray.wait(list(running), timeout=seconds, num_returns=count)[0] if running else []
        for reference in ready:
            rank = running.pop(reference)
            try:
                outcomes[rank] = ray.get(reference)
            except ray.exceptions.RayError as error:
                outcomes[rank] = error

    def _show(self) -> None:
        import ray

        for line in ray.get(self.board.read.remote()):
            say(line)


def _raise_first(outcomes: dict[int, Any], size: int) -> None:
    """Raise what the workers' end comes from: a mistake of the user's, a death, an error, a signal."""
    import ray

    ends = sorted(outcomes.items(), key=lambda outcome: outcome[0])
    for _, end in ends:
        if isinstance(end, UserError):
            raise end
    for rank, end in ends:
        if isinstance(end, ray.exceptions.RayActorError):
            raise UserError(f"worker {rank} of {size} has died ({_first_line(end)}); {_GOES_ON}")
    for _, end in ends:
        if isinstance(end, BaseException):
            raise end
        if end:
            raise SystemExit(end)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:")


@contextmanager
def _ray(workers: int) -> Iterator[Path | None]:
    """Be connected to the cluster of RAY_ADDRESS, or run a Ray of this machine for the time of the block and yield its folder."""
    if os.environ.get("RAY_ADDRESS", "local") == "local":
        with local_ray(workers, _OVER_LOOPBACK) as folder:
            yield folder
        return
    import ray

    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"env_vars": {"PYTHONPATH": paths}}
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
    try:
        yield None
    finally:
        ray.shutdown()


def _device(workers: int, device: str) -> str:
    """Return the device of every worker: a GPU each where Ray has any, unless the CPU was asked for."""
    import ray

    held = ray.cluster_resources()
    if held.get("CPU", 0) < workers:
        raise UserError(f"--workers {workers}: Ray has {held.get('CPU', 0):.0f} CPUs, and each worker takes one; give fewer workers")
    return _gpus_for(workers, device, int(held.get("GPU", 0)))


def _gpus_for(workers: int, device: str, gpus: int) -> str:
    if device == "cpu" or (device == "auto" and not gpus):
        return "cpu"
    if gpus < workers:
        remedy = f"give --workers {gpus}, or --device cpu" if gpus else "use --device cpu"
        raise UserError(f"--workers {workers} --device {device}: each worker takes a GPU, and there are {gpus}; {remedy}")
    return "cuda"
