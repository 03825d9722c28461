"""Workers on the living nodes: as many as there is room for, each with one job at a time, used again when it has ended."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.cluster.board import Board, Progress
from agents.cluster.resources import Needs, fitting, sends_code
from agents.cluster.worker import Job, Outcome, Worker
from foundation.progress import say
from foundation.telling import tell

_POLL_SECONDS = 0.3
_LONGEST_PAUSE = 60.0
_COUNT_SECONDS = 5.0
_CROWDED_SECONDS = 15.0
"""How long more runs than there is room for may be under way: deaths are noticed within that time."""
_LOST_SECONDS = 600.0
"""How long jobs wait for a node that has what they ask for, where none is left."""


@dataclass(frozen=True)
class Attempt:
    """A job, how often it was started again, and when it may be."""

    job: Job
    restarts: int = 0
    lost: int = 0
    """Times that its worker died before it began: on a node that is dying, mostly. These are no restarts."""
    not_before: float = 0.0
    began: bool = False
    """Of one that ended: a worker had taken it up."""

    def again(self, reason: str) -> "Attempt":
        pause = min(2.0 ** (self.restarts + self.lost), _LONGEST_PAUSE)
        say(f"{self.job.key}: {reason}; restarting in {pause:.0f} s from its last checkpoint")
        return Attempt(self.job, self.restarts + self.began, self.lost + (not self.began), time.monotonic() + pause)


class Pool:
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
        self.running: dict[Any, tuple[Any, Attempt]] = {}
        self.restarts: dict[str, int] = {}
        self.placed: set[str] = set()
        self.shown: dict[str, str] = {}
        self.stopping = False
        self.room, self.counted = 0.0, -math.inf
        self.fits = self.fitted = time.monotonic()
        """When there was last room for what runs, and for anything."""

    def fill(self, waiting: list[Attempt]) -> None:
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

    def poll(self) -> list[tuple[Attempt, Outcome]]:
        """Wait a moment and return the attempts that ended."""
        import ray

        if not self.running:
            time.sleep(_POLL_SECONDS)
            return []
        ready, _ = ray.wait(list(self.running), timeout=_POLL_SECONDS)
        return [self._ended(reference) for reference in ready]

    def given_up(self, waiting: list[Attempt]) -> list[tuple[Attempt, Outcome]]:
        """Return all that waits as failed, where no living node has had room for any of it for long."""
        if time.monotonic() - self.fitted < _LOST_SECONDS:
            return []
        message = f"no living node has had what it asks for, for {_LOST_SECONDS / 60:.0f} minutes: join nodes, run the same command again"
        given_up = [(one, Outcome(one.job.key, "failed", message=message, user_error=True)) for one in waiting]
        waiting.clear()
        return given_up

    def progress(self) -> Progress:
        """Return what is known of all jobs; say once where each runs, and what they tell."""
        import ray

        progress: Progress = ray.get(self.board.read.remote())
        for line in progress.told:
            tell(line)
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
            say("stopping: each run saves when its rollout or evaluation ends; Ctrl-C again ends them now, at their last checkpoints")
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

    def _start(self, attempt: Attempt) -> None:
        if attempt.restarts:
            self.restarts[attempt.job.key] = attempt.restarts
        worker = self.idle.pop() if self.idle else self.actor.remote(self.board, self.needs, self.token)
        self.running[worker.do.remote(attempt.job)] = worker, attempt

    def _put_back(self) -> Attempt:
        """End the run that was started last: a node was lost, and the others' environment actors find no CPUs beside it."""
        import ray

        worker, attempt = self.running.pop(list(self.running)[-1])
        say(f"{attempt.job.key}: waiting again, because a node was lost; it resumes from its last checkpoint when there is room")
        ray.kill(worker)
        self.board.forget.remote(attempt.job.key)
        self.fits = time.monotonic()
        return replace(attempt, not_before=self.fits)

    def _ended(self, reference: Any) -> tuple[Attempt, Outcome]:
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
