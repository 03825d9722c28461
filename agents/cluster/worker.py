"""A process of Ray that does jobs, and how each ended."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.cluster.board import TellBoard
from agents.cluster.resources import Needs
from agents.jobs import Stopped
from envs.failures import EnvironmentFailed
from foundation.errors import FULL, UserError
from foundation.shared_folder import find_token
from foundation.telling import tell_through


@dataclass(frozen=True)
class Job:
    """Something a worker does: a function of this product, by module and name, and what it is given."""

    key: str
    function: Callable[..., Any]
    """Called with `argument` and a report; found again in the worker by its module's name."""
    argument: Any


@dataclass
class Outcome:
    """How a job ended: finished with a value, stopped as asked, or failed with a message."""

    key: str
    status: Literal["finished", "stopped", "failed"]
    value: Any = None
    message: str = ""
    details: str = ""
    user_error: bool = False
    restarts: int = 0
    """Times that it was started again."""
    died: bool = False
    """Another attempt may go well: its worker died, or a file or a connection failed."""


class Worker:
    """A process that does one job after another, so that imports are paid once."""

    def __init__(self, board: Any, needs: Needs, token: Path | None) -> None:
        self.board, self.needs, self.token = board, needs, token
        self.tell = TellBoard(board)
        if not needs.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def do(self, job: Job) -> Outcome:
        import ray

        place = ""

        def report(steps: int, note: str) -> bool:
            return ray.get(self.board.report.remote(job.key, steps, note, place))

        tell_through(self.tell)
        try:
            place = got(self.needs)
            ray.get(self.board.place.remote(job.key, place))
            find_token(self.token)
            return Outcome(job.key, "finished", job.function(job.argument, report))
        except Stopped:
            return Outcome(job.key, "stopped")
        except EnvironmentFailed as error:
            return Outcome(job.key, "failed", message=str(error), details=error.details, user_error=True, died=error.may_pass)
        except UserError as error:
            return Outcome(job.key, "failed", message=str(error), user_error=True)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                message = f"{error.strerror} on {os.uname().nodename}: free some space and run the same command again"
                return Outcome(job.key, "failed", message=message, user_error=True)
            message = f"{type(error).__name__}: {error}"
            return Outcome(job.key, "failed", message=message, details=traceback.format_exc(), died=isinstance(error, OSError))


def got(needs: Needs) -> str:
    """Return where this worker runs and what it got; raise `RuntimeError` where that is less than it asked for."""
    import ray

    context = ray.get_runtime_context()
    assigned = context.get_assigned_resources()
    cpus, gpus = assigned.get("CPU", 0.0), assigned.get("GPU", 0.0)
    if cpus < needs.cpus - 1e-6 or gpus < (needs.gpus or 0.0) - 1e-6:
        raise RuntimeError(f"asked Ray for {needs.cpus:g} CPUs and {needs.gpus:g} GPUs, got {cpus:g} and {gpus:g}")
    place = f"{ray.util.get_node_ip_address()}, process {os.getpid()}, {cpus:g} CPU{'s' if cpus != 1 else ''}"
    return f"{place}, {_gpus(gpus)}" if gpus else place


def _gpus(share: float) -> str:
    import ray
    import torch

    numbers = ray.get_gpu_ids()
    if not numbers or torch.cuda.device_count() != len(numbers):
        raise RuntimeError(f"asked Ray for {share:g} GPUs and was given {numbers}, but torch sees {torch.cuda.device_count()} CUDA devices")
    names = ", ".join(f"{number} ({torch.cuda.get_device_name(index)})" for index, number in enumerate(numbers))
    return f"{share:g} of GPU {names}"
