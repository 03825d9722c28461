"""Jobs on Ray workers: workers reused, jobs whose worker or node died started again, signals passed on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agents.cluster.board import Progress
from agents.cluster.pool import Attempt, Pool
from agents.cluster.resources import Needs, check_needs, sends_code, shared_gpus
from agents.cluster.worker import Job, Outcome
from foundation.progress import say
from foundation.shared_folder import absolute, shared_token
from foundation.signals import stop_signals

_LOST_STARTS = 6
"""Workers of one job that may die before they begin it, beside its restarts."""


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
    waiting = [Attempt(_sent(job)) for job in jobs]
    with stop_signals() as received, shared_token(shared) as token:
        pool = Pool(needs, workers, token)
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


def _final(outcome: Outcome, attempt: Attempt, stopping: bool) -> Outcome:
    if outcome.died and stopping:
        if attempt.began:
            say(f"{outcome.key}: {outcome.message}; it can resume from its last checkpoint")
        return Outcome(outcome.key, "stopped", restarts=attempt.restarts)
    often = f" after {attempt.restarts} restarts" if outcome.died and attempt.restarts else ""
    return replace(outcome, restarts=attempt.restarts, message=outcome.message + often)


def _sent(job: Job) -> Job:
    """Return the job as it may leave this machine: workers of a cluster have another working directory."""
    return replace(job, argument=absolute(job.argument)) if sends_code() else job
