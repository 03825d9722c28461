"""A search's open trials on Ray Tune: which runs where and when, and which ASHA stops early.

Tune's own files lie in a temporary folder and are never read: what it has to know of earlier runs comes from the search's folder.
"""

import logging
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from agents.cluster.board import Board, Progress, TellBoard
from agents.cluster.resources import Needs, check_needs, cores, fitting, ray_cluster, shared_gpus
from agents.jobs import Report, Stopped
from agents.remote.config import ACTOR_CPUS
from agents.run.needs import local_cpus, run_needs
from envs.failures import EnvironmentFailed
from foundation.environment import environment_variables
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.progress import say
from foundation.shared_folder import absolute, find_token, shared_token
from foundation.signals import stop_signals
from foundation.telling import tell, tell_through
from search.config import SearchConfig
from search.search import Search, Trial
from search.trials import Reached, TrialPlan, advance

INTERRUPTED = "interrupted"

# Tune writes loggers' files and handles Ctrl-C itself; a result of an interrupted trial has no score
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def require_tune() -> None:
    """Raise `UserError` where Ray Tune is not installed."""
    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        raise UserError("the search needs Ray Tune: pip install --constraint constraints.txt --editable '.[tune]'") from error


Advance = Callable[[TrialPlan, int | None, Report], Reached]


def run_trials(search: Search, ended: Callable[[Trial], None], watch: Callable[[Progress], None], advance: Advance = advance) -> int | None:
    """Run a search's open trials with `advance`; return None, or the signal that stopped them.

    `ended` gets each trial whose record says how it ended, `watch` the progress a few times a second. A trial that fails keeps no
    other from running; one whose worker died is started again. SIGINT and SIGTERM let the running trials save and leave the rest.
    """
    config, trials = search.config, search.open_trials()
    with ray_cluster(config.ray, local_cpus(config, min(config.workers or cores(), len(trials)))):
        needs = shared_gpus(run_needs(config), min(config.workers or len(trials), len(trials)))
        check_needs(needs)
        # what it would say of failed trials stands in their records
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        with stop_signals() as received, shared_token(config.run) as token, environment_variables(_QUIET):
            _tune(search, trials, needs, {"token": token, "advance": advance}, _Watch(trials, ended, watch, received))
    return received[0] if received else None


class _Watch:
    """What the driver does while Tune runs: keeps records, shows progress, and passes a signal on."""

    def __init__(
        self, trials: Sequence[Trial], ended: Callable[[Trial], None], watch: Callable[[Progress], None], received: list[int]
    ) -> None:
        import ray

        self.trials = {trial.number: trial for trial in trials}
        self.ended, self.watch, self.received = ended, watch, received
        self.board: Any = ray.remote(num_cpus=0)(Board).remote()

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes down how it was set up: a file that nobody reads, and a screen cannot be put into."""
        return {}

    def look(self) -> None:
        import ray

        if self.received:
            self.board.stop.remote()
        progress: Progress = ray.get(self.board.read.remote())
        for line in progress.told:
            tell(line)
        self.watch(progress)

    def scored(self, number: int, result: dict[str, Any]) -> None:
        if "score" in result:
            self.trials[number].add_score(result["steps"], result["score"])

    def completed(self, number: int, result: dict[str, Any]) -> None:
        """Record the end of a trial: its own, or ASHA's where the trial has said nothing of an end."""
        how = result.get("ended", "stopped early")
        if how != INTERRUPTED:
            self.trials[number].end(how, result.get("message", ""))
            self.ended(self.trials[number])

    def restarted(self, number: int) -> None:
        trial = self.trials[number]
        trial.add_restart()
        say(f"trial {trial.key}: its worker died, or a file or a connection failed; starting it again, from its agents' checkpoints")

    def given_up(self, number: int, restarts: int, reason: str) -> None:
        times = "1 restart" if restarts == 1 else f"{restarts} restarts"
        self.trials[number].end("failed", f"given up after {times}: {reason}")
        self.ended(self.trials[number])


def asha(config: SearchConfig, trials: Sequence[Trial]) -> Any:
    """Return ASHA (Li et al. 2020) that knows the scores which `trials` have reached at its rungs, or None where it has no rung."""
    from ray.tune.schedulers import ASHAScheduler

    if not config.rungs:
        return None
    grace, most = config.rungs[0], config.steps
    scheduler: Any = ASHAScheduler("steps", "score", "max", max_t=most, grace_period=grace, reduction_factor=config.reduction)
    for trial in trials:
        # of a trial it asks for no more
        known: Any = SimpleNamespace(trial_id=f"recorded-{trial.number}")
        scheduler.on_trial_add(None, known)
        for reached in trial.record().scores:
            scheduler.on_trial_result(None, known, {"steps": reached.step, "score": reached.score})
    return scheduler


def _tune(search: Search, trials: Sequence[Trial], needs: Needs, given: dict[str, Any], watch: _Watch) -> None:
    from ray import tune

    config = search.config
    plans = {trial.number: absolute(search.plan(trial)) for trial in trials}
    passed = {trial.number: config.passed(trial.record().scores[-1].step) if trial.record().scores else 0 for trial in trials}
    given |= {"plans": plans, "rungs": config.rungs, "passed": passed, "board": watch.board, "gpus": needs.gpus}
    # what a trial's actors ask for stands in its group: they may not use what lies outside
    bundles = [{"CPU": needs.cpus, **({"GPU": needs.gpus} if needs.gpus else {})}, *[{"CPU": ACTOR_CPUS}] * config.remote.actors]
    trainable = tune.with_resources(tune.with_parameters(_trainable(), **given), tune.PlacementGroupFactory(bundles))
    chosen = tune.TuneConfig(
        search_alg=_queue([trial.number for trial in trials], watch.received),
        num_samples=len(trials),
        max_concurrent_trials=min(config.workers or fitting(needs), len(trials)),
        scheduler=asha(config, search.trials),
        reuse_actors=True,
    )
    with tempfile.TemporaryDirectory(prefix="tune-") as scratch:
        running = tune.RunConfig(
            name="search",
            storage_path=scratch,
            verbose=0,
            callbacks=[_callback(watch)],
            failure_config=tune.FailureConfig(max_failures=config.ray.retries),
            # the agents' own checkpoints are what is resumed
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )
        tune.Tuner(trainable, tune_config=chosen, run_config=running).fit()


def _trainable() -> type:
    """Return the class that does trials in a worker; made here, since its base class comes with Tune."""
    from ray import tune

    class AgentTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], **given: Any) -> None:
            token, gpus = given["token"], given["gpus"]
            find_token(token)
            if not gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = ""
            self.plans, self.rungs, self.passed, self.board = (given[name] for name in ("plans", "rungs", "passed", "board"))
            self.advance: Advance = given["advance"]
            tell_through(TellBoard(self.board))
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.plan: TrialPlan = self.plans[new_config["trial"]]
            self.rung = self.passed[new_config["trial"]]
            return True

        def step(self) -> dict[str, Any]:
            rung = self.rungs[self.rung] if self.rung < len(self.rungs) else None
            self.rung += 1
            return take_step(self.plan, rung, self._report, self.advance)

        def _report(self, steps: int, note: str) -> bool:
            import ray

            return ray.get(self.board.report.remote(f"trial {self.plan.number}", steps, note))

    return AgentTrial


def take_step(plan: TrialPlan, rung: int | None, report: Report, advance: Advance = advance) -> dict[str, Any]:
    """Take a trial to its next rung, or its end (None), and return what Tune is told: errors too, which Tune would repeat."""
    try:
        if report(0, "starting"):
            raise Stopped
        reached = advance(plan, rung, report)
    except Stopped:
        return {"ended": INTERRUPTED, "done": True}
    except UserError as error:
        if isinstance(error, EnvironmentFailed) and error.may_pass:
            raise OSError(str(error)) from error
        return {"ended": "failed", "message": str(error), "done": True}
    except OSError:
        # a file or a connection: another attempt may go well
        raise
    except Exception as error:
        write_atomically(plan.runs[0].run.parent / "error.txt", traceback.format_exc())
        return {"ended": "failed", "message": f"{type(error).__name__}: {error}", "done": True}
    score = {"steps": reached.step, "score": reached.score}
    return {**score, "ended": "finished", "done": True} if rung is None or reached.ends(plan) else score


def _queue(numbers: Sequence[int], received: list[int]) -> Any:
    """Return what hands Tune the trials one by one, and no more once a signal was received."""
    from ray.tune.search import Searcher

    class Queue(Searcher):
        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")
            self.waiting = list(numbers)

        def suggest(self, trial_id: str) -> Any:
            return {"trial": self.waiting.pop(0)} if self.waiting and not received else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Trials are drawn before Tune starts, and learn nothing from each other."""

        def save(self, checkpoint_path: str) -> None:
            """The search's folder says what is done."""

    return Queue()


def _callback(watch: _Watch) -> Any:
    from ray import tune

    class Watching(tune.Callback):
        def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
            watch.look()

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            watch.scored(trial.config["trial"], result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.completed(trial.config["trial"], trial.last_result or {})

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.restarted(trial.config["trial"])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.given_up(trial.config["trial"], trial.num_failures - 1, _reason(trial.get_error()))

    return Watching()


def _reason(error: object) -> str:
    """Return what ended a trial's worker, in one line: the exception that Tune's text ends with, or that there was none."""
    lines = str(error or "").strip().splitlines()
    return lines[-1] if lines and re.match(r"[\w.]+(Error|Exception)\b", lines[-1]) else "its worker died"
