"""Jobs on Ray workers: workers reused, jobs whose worker or node died started again, progress and stopping through one small actor."""

import dataclasses
import errno
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agents.cluster.resources import Needs, check_needs, fitting, sends_code, shared_gpus
from agents.cluster.shared_folder import find_token, shared_token
from foundation.errors import UserError
from foundation.progress import say

_POLL_SECONDS = 0.3
_LONGEST_PAUSE = 60.0
_COUNT_SECONDS = 5.0
_CROWDED_SECONDS = 15.0
"""How long more runs than there is room for may be under way: deaths are noticed within that time."""
_LOST_STARTS = 6
_LOST_SECONDS = 600.0
"""How long jobs wait for a node that has what they ask for, where none is left."""
_ONE_SIGNAL_SECONDS = 1.0
"""Within that time signals are one: wrappers such as `timeout` pass on what the terminal has sent already."""

Report = Callable[[int, str], bool]


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


@dataclass
class Progress:
    """What jobs have reported, by key: steps, a note, how often each was started again, and where it runs."""

    steps: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Node, CPUs and GPU that a job got; without an entry it waits for them."""


class Board:
    """Where workers report to, and learn that they are to stop. It forgets in dying, and the next reports fill it again."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.stopping = False

    def report(self, key: str, steps: int, note: str, place: str = "") -> bool:
        self.progress.steps[key] = steps
        self.progress.notes[key] = note
        if place:
            self.place(key, place)
        return self.stopping

    def place(self, key: str, place: str) -> None:
        self.progress.places[key] = place

    def forget(self, key: str) -> None:
        """Forget where a job ran that starts again; its steps stay until it reports those of its checkpoint."""
        self.progress.places.pop(key, None)

    def read(self) -> Progress:
        return self.progress

    def stop(self) -> None:
        self.stopping = True


class Worker:
    """A process that does one job after another, so that imports are paid once."""

    def __init__(self, board: Any, needs: Needs, token: Path | None) -> None:
        self.board, self.needs, self.token = board, needs, token
        if not needs.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def do(self, job: Job) -> Outcome:
        import ray

        from agents.run.training import Stopped

        place = ""

        def report(steps: int, note: str) -> bool:
            return ray.get(self.board.report.remote(job.key, steps, note, place))

        try:
            place = got(self.needs)
            ray.get(self.board.place.remote(job.key, place))
            find_token(self.token)
            return Outcome(job.key, "finished", job.function(job.argument, report))
        except Stopped:
            return Outcome(job.key, "stopped")
        except UserError as error:
            return Outcome(job.key, "failed", message=str(error), user_error=True)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
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


def run_jobs(
    jobs: Sequence[Job],
    workers: int | None,
    ended: Callable[[Outcome], None],
    watch: Callable[[Progress], None],
    needs: Needs | None = None,
    retries: int = 3,
    shared: Path | None = None,
) -> int | None:
    """Do all jobs on at most `workers` workers (None: as many as fit); return None, or the signal that stopped them.

    `ended` gets each outcome as it comes, `watch` the progress a few times a second. A job that fails keeps no other from running.
    One whose worker or node died, or which failed for a file or a connection (`OSError`), is started again, at most `retries` times,
    after a pause that doubles; any other error would come again and is final. SIGINT and SIGTERM let the running jobs save and
    leave the rest undone; a second one ends them at once. Call inside `ray_cluster`. Workers must see the folder `shared`. Raises
    `UserError` where the cluster can never give what a job `needs`.
    """
    needs = shared_gpus(needs or Needs(), workers or len(jobs))
    check_needs(needs)
    waiting = [_Attempt(_sent(job)) for job in jobs]
    with stop_signals() as received, shared_token(shared) as token:
        pool = _Pool(needs, workers, token)
        while waiting or pool.running:
            if received:
                waiting.clear()
                pool.stop(at_once=len(received) > 1)
            else:
                pool.fill(waiting)
            for attempt, outcome in pool.poll() or pool.given_up(waiting):
                if outcome.died and not received and attempt.restarts < retries and attempt.lost < _LOST_STARTS:
                    waiting.append(attempt.again(outcome.message))
                else:
                    ended(_final(outcome, attempt, stopping=bool(received)))
            watch(pool.progress())
    return received[0] if received else None


@dataclass(frozen=True)
class _Attempt:
    """A job, how often it was started again, and when it may be."""

    job: Job
    restarts: int = 0
    lost: int = 0
    """Times that its worker died before it began: on a node that is dying, mostly. These are no restarts."""
    not_before: float = 0.0
    began: bool = False
    """Of one that ended: a worker had taken it up."""

    def again(self, reason: str) -> "_Attempt":
        pause = min(2.0 ** (self.restarts + self.lost), _LONGEST_PAUSE)
        say(f"{self.job.key}: {reason}; starting it again in {pause:.0f} s, from its last checkpoint")
        return _Attempt(self.job, self.restarts + self.began, self.lost + (not self.began), time.monotonic() + pause)


class _Pool:
    """Workers with or without a job, as many as the living nodes have room for."""

    def __init__(self, needs: Needs, limit: int | None, token: Path | None) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.needs, self.limit, self.token = needs, limit or math.inf, token
        # beside the command: it dies with no other node
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
        self.board = board.options(scheduling_strategy=here).remote()
        self.actor: Any = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus or 0, max_restarts=0)(Worker)
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, _Attempt]] = {}
        self.restarts: dict[str, int] = {}
        self.placed: set[str] = set()
        self.shown: dict[str, str] = {}
        self.stopping = False
        self.room, self.counted = 0.0, -math.inf
        self.fits = self.fitted = time.monotonic()
        """When there was last room for what runs, and for anything."""

    def fill(self, waiting: list[_Attempt]) -> None:
        """Start what waits and may be started, as far as there is room; put back what has no room any more."""
        now = time.monotonic()
        self._count_room(now)
        if now - self.fits > _CROWDED_SECONDS:
            waiting.append(self._put_back())
        for attempt in [one for one in waiting if one.not_before <= now]:
            if len(self.running) >= self.room:
                break
            waiting.remove(attempt)
            self._start(attempt)

    def poll(self) -> list[tuple[_Attempt, Outcome]]:
        """Wait a moment and return the attempts that ended."""
        import ray

        if not self.running:
            time.sleep(_POLL_SECONDS)
            return []
        ready, _ = ray.wait(list(self.running), timeout=_POLL_SECONDS)
        return [self._ended(reference) for reference in ready]

    def given_up(self, waiting: list[_Attempt]) -> list[tuple[_Attempt, Outcome]]:
        """Return all that waits as failed, where no living node has had room for any of it for long."""
        if time.monotonic() - self.fitted < _LOST_SECONDS:
            return []
        message = f"no living node has had what it asks for, for {_LOST_SECONDS / 60:.0f} minutes: join nodes, run the same command again"
        given_up = [(one, Outcome(one.job.key, "failed", message=message, user_error=True)) for one in waiting]
        waiting.clear()
        return given_up

    def progress(self) -> Progress:
        """Return what is known of all jobs; say once where each runs."""
        import ray

        progress: Progress = ray.get(self.board.read.remote())
        running = {attempt.job.key for _, attempt in self.running.values()}
        # a worker that was ended may have had its say afterwards
        progress.places = {key: place for key, place in progress.places.items() if key in running}
        for key, place in progress.places.items():
            if self.shown.get(key) != place and (self.needs.gpus or sends_code()):
                say(f"{key}: on {place}")
            self.shown[key] = place
        self.placed = set(progress.places)
        for key in running - self.placed:
            progress.notes[key] = "waits for Ray to give it a worker"
        return replace(progress, restarts=dict(self.restarts))

    def stop(self, at_once: bool) -> None:
        """Ask the running jobs to save and end, and end those that still wait for a worker; or end all at once."""
        import ray

        if self.running and not self.stopping:
            say("stopping: runs save when their rollout or evaluation ends; a second Ctrl-C ends them at once, from their last checkpoints")
        self.stopping = True
        self.board.stop.remote()
        for worker, attempt in self.running.values():
            if at_once or attempt.job.key not in self.placed:
                ray.kill(worker)

    def _count_room(self, now: float) -> None:
        if now - self.counted > _COUNT_SECONDS:
            self.counted, self.room = now, min(fitting(self.needs), self.limit)
            if len(self.running) <= self.room:
                self.fits = now
            if self.room or self.running:
                self.fitted = now

    def _start(self, attempt: _Attempt) -> None:
        if attempt.restarts:
            self.restarts[attempt.job.key] = attempt.restarts
        worker = self.idle.pop() if self.idle else self.actor.remote(self.board, self.needs, self.token)
        self.running[worker.do.remote(attempt.job)] = worker, attempt

    def _put_back(self) -> _Attempt:
        """End the run that was started last: a node was lost, and the others' environment actors find no CPUs beside it."""
        import ray

        worker, attempt = self.running.pop(list(self.running)[-1])
        say(f"{attempt.job.key}: put back, since a node was lost; it goes on from its last checkpoint when there is room")
        ray.kill(worker)
        self.board.forget.remote(attempt.job.key)
        self.fits = time.monotonic()
        return replace(attempt, not_before=self.fits)

    def _ended(self, reference: Any) -> tuple[_Attempt, Outcome]:
        import ray

        worker, attempt = self.running.pop(reference)
        key = attempt.job.key
        try:
            outcome = ray.get(reference)
            self.idle.append(worker)
        except ray.exceptions.RayError as error:
            outcome = Outcome(key, "failed", message=f"its worker died ({_first_line(error)})", details=str(error), died=_is_death(error))
            # one that only cannot be reached must not go on beside its successor, and idle ones may have died with its node
            for handle in (worker, *self.idle):
                ray.kill(handle)
            self.idle.clear()
            self.counted = -math.inf
        if outcome.died:
            # it may have begun since the last look
            attempt = replace(attempt, began=key in ray.get(self.board.read.remote()).places)
            self.board.forget.remote(key)
        return attempt, outcome


def _is_death(error: Exception) -> bool:
    """Say whether another worker may do better: not where its code cannot be sent or no node may run it."""
    import ray

    return not isinstance(error, (ray.exceptions.RuntimeEnvSetupError, ray.exceptions.ActorUnschedulableError, ray.exceptions.RayTaskError))


def _final(outcome: Outcome, attempt: _Attempt, stopping: bool) -> Outcome:
    if outcome.died and stopping:
        if attempt.began:
            say(f"{outcome.key}: {outcome.message}; it goes on from its last checkpoint")
        return Outcome(outcome.key, "stopped", restarts=attempt.restarts)
    often = f" after {attempt.restarts} restarts" if outcome.died and attempt.restarts else ""
    return replace(outcome, restarts=attempt.restarts, message=outcome.message + often)


def _sent(job: Job) -> Job:
    """Return the job as it may leave this machine: workers of a cluster have another working directory."""
    return replace(job, argument=absolute(job.argument)) if sends_code() else job


def absolute(argument: Any) -> Any:
    """Return settings with absolute paths, down to those in tuples, lists and dataclasses."""
    if isinstance(argument, Path):
        return argument.absolute()
    if dataclasses.is_dataclass(argument) and not isinstance(argument, type):
        return replace(argument, **{one.name: absolute(getattr(argument, one.name)) for one in dataclasses.fields(argument) if one.init})
    if isinstance(argument, (tuple, list)):
        return type(argument)(absolute(one) for one in argument)
    return argument


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; those that come within a second of the last are one."""
    received: list[int] = []
    last = -math.inf

    def receive(number: int, _: Any) -> None:
        nonlocal last
        last, before = time.monotonic(), last
        if last - before > _ONE_SIGNAL_SECONDS:
            received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
