"""Jobs on Ray workers: a local Ray by default, workers reused, progress and stopping through one small actor."""

import logging
import math
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from foundation.errors import UserError

_ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.3

Report = Callable[[int, str], bool]


@dataclass(frozen=True)
class Job:
    """Something a worker does: a function of this product, by module and name, and what it is given."""

    key: str
    function: Callable[..., Any]
    """Called with `argument` and a report; found again in the worker by its module's name."""
    argument: Any
    needs_gpu: bool = False


@dataclass
class Outcome:
    """How a job ended: finished with a value, stopped as asked, or failed with a message."""

    key: str
    status: Literal["finished", "stopped", "failed"]
    value: Any = None
    message: str = ""
    details: str = ""
    user_error: bool = False


@dataclass
class Progress:
    """What jobs have reported: steps and a note, by key."""

    steps: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class Board:
    """Where workers report to, and learn that they are to stop."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.stopping = False

    def report(self, key: str, steps: int, note: str) -> bool:
        self.progress.steps[key] = steps
        self.progress.notes[key] = note
        return self.stopping

    def read(self) -> Progress:
        return self.progress

    def stop(self) -> None:
        self.stopping = True


class Worker:
    """A process that does one job after another, so that imports are paid once."""

    def __init__(self, board: Any) -> None:
        self.board = board

    def do(self, job: Job) -> Outcome:
        import ray

        from agents.run import Stopped

        def report(steps: int, note: str) -> bool:
            return ray.get(self.board.report.remote(job.key, steps, note))

        try:
            return Outcome(job.key, "finished", job.function(job.argument, report))
        except Stopped:
            return Outcome(job.key, "stopped")
        except UserError as error:
            return Outcome(job.key, "failed", message=str(error), user_error=True)
        except Exception as error:
            return Outcome(job.key, "failed", message=f"{type(error).__name__}: {error}", details=traceback.format_exc())


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """Run a Ray of this machine for the time of the block, quietly."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # workers would run at niceness 15 and starve beside anything else
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=128 * 2**20,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
    except Exception as error:  # Ray raises bare exceptions where a part of it does not answer in time
        reason = " ".join(str(error).split())
        raise UserError(f"Ray did not start on this machine ({reason}); try again when it is less busy, or look into /tmp/ray") from error
    try:
        yield
    finally:
        ray.shutdown()


def run_jobs(jobs: Sequence[Job], workers: int, ended: Callable[[Outcome], None], watch: Callable[[Progress], None]) -> int | None:
    """Do all jobs on at most `workers` workers; return None, or the signal that stopped them.

    `ended` gets each outcome as it comes, `watch` the progress a few times a second. A job that fails, or whose worker dies,
    keeps no other from running. SIGINT and SIGTERM let the running jobs save and leave the rest undone. Call inside `local_ray`.
    """
    import ray

    gpus = ray.cluster_resources().get("GPU", 0)
    if any(job.needs_gpu for job in jobs) and gpus < 1:
        raise UserError("device 'cuda' was asked for, but Ray has no GPU; use --device cpu or auto")
    board: Any = ray.remote(num_cpus=0)(Board)
    board = board.remote()
    pool = _Pool(board, gpu_share(gpus, workers) if any(job.needs_gpu for job in jobs) else 0)
    waiting = list(jobs)
    with _signals() as received:
        while waiting or pool.running:
            if received and waiting:
                waiting.clear()
                ray.get(board.stop.remote())
            elif received:
                board.stop.remote()
            while waiting and len(pool.running) < workers:
                pool.start(waiting.pop(0))
            for outcome in pool.poll():
                ended(outcome)
            watch(ray.get(board.read.remote()))
    return received[0] if received else None


def gpu_share(gpus: float, workers: int) -> float:
    """Return what part of one GPU each worker asks for: all workers fit at the same time, none across two GPUs."""
    return 1 / math.ceil(workers / int(gpus))


class _Pool:
    """Workers with or without a job."""

    def __init__(self, board: Any, gpus: float) -> None:
        import ray

        self.board = board
        self.actor: Any = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Job]] = {}

    def start(self, job: Job) -> None:
        worker = self.idle.pop() if self.idle else self.actor.remote(self.board)
        self.running[worker.do.remote(job)] = worker, job

    def poll(self) -> list[Outcome]:
        """Wait a moment and return the outcomes that came."""
        import ray

        if not self.running:
            return []
        ready, _ = ray.wait(list(self.running), timeout=_POLL_SECONDS)
        outcomes = []
        for reference in ready:
            worker, job = self.running.pop(reference)
            try:
                outcomes.append(ray.get(reference))
                self.idle.append(worker)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                outcomes.append(Outcome(job.key, "failed", message=f"its worker died ({reason})", details=str(error)))
        return outcomes


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda got, _: received.append(got)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
