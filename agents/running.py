"""One agent from a command: what is checked before Ray starts, the run in its worker, what is said at the end."""

import shlex
from typing import Any

from agents.cluster.board import TotalSteps
from agents.cluster.resources import ray_cluster
from agents.cluster.worker import Job, Outcome
from agents.cluster.workers import run_jobs
from agents.run.config import LEARNING, AgentRun
from agents.run.environment import check_environment
from agents.run.identity import finished_result
from agents.run.needs import local_cpus, run_needs
from agents.run.representation import reading_line, seen_artifact
from agents.run.training import train_agent
from encoders.training.devices import choose_device
from foundation.env_options import running_options
from foundation.errors import UserError
from foundation.folders import AGENT, refuse_others
from foundation.progress import progress_bar, say, tell_result


def run_agent(config: AgentRun) -> int:
    """Train one agent in one Ray worker, unless it is finished; return the exit status."""
    refuse_others(config.run, AGENT)
    result = finished_result(config)
    if result is not None:
        tell_result(f"{config.run} is already finished, at {result['steps']:,} steps; give more --steps to continue")
        _show_trained(config, result)
        return 0
    # what cannot work is said before Ray starts and before the run's folder is made
    if config.ray.address is None:
        choose_device(config.device)
    for environment in config.evaluation.worlds_of(config.environment):
        check_environment(environment, config.algorithm, config.control == "oracle")
    if config.encoder is not None:
        flat, learns = config.algorithm.set_policy == "flat", config.control in LEARNING
        say(reading_line(config.encoder, config.latents, config.scale, flat, learns, config.environment.history))
    if config.control == "supervised":
        # here, where its progress is seen; the worker finds it made
        seen_artifact(config)
    outcomes: list[Outcome] = []
    say("starting a Ray worker")
    with ray_cluster(config.ray, local_cpus(config, 1)), progress_bar(f"training {config.run.name}", config.steps) as advance:
        job, needs = Job("run", train_agent, config), run_needs(config)
        received = run_jobs([job], 1, outcomes.append, TotalSteps(advance), needs, config.ray.retries, shared=config.run)
    for outcome in outcomes:
        _raise_failure(outcome)
    if received is not None:
        say(f"stopped; run the same command again to resume {config.run}")
        return 128 + received
    _show_trained(config, outcomes[0].value)
    return 0


def _raise_failure(outcome: Outcome) -> None:
    if outcome.status == "failed":
        if outcome.user_error:
            raise UserError(outcome.message)
        if outcome.died:
            raise UserError(f"{outcome.message}; run the same command again to resume from the last checkpoint")
        raise RuntimeError(outcome.details or outcome.message)


def _show_trained(config: AgentRun, result: dict[str, Any]) -> None:
    device = result["device"]
    what = config.control or result["encoder"]["name"]
    tell_result(
        f"{what}, seed {config.seed}: mean return {result['final_return']:.2f} over {len(result['final_returns'])} evaluation episodes "
        f"after {result['steps']:,} steps ({result['seconds']:.0f} s; policy on {device['policy']}"
        + (f", encoder on {device['encoder']})" if device["encoder"] else ")")
    )
    tell_result(f"wrote {config.run}: agent.safetensors, agent.json, result.json, metrics.jsonl, tensorboard/, pictures/")
    # its name has a module to import, which an agent's file cannot ask for
    asked = f" --environment {config.environment.name}" if ":" in config.environment.name else ""
    # nor does it say how a game runs
    asked += "".join(f" --env.{name} {shlex.quote(str(value))}" for name, value in running_options(config.environment.options).items())
    film = f"python play_agent.py {config.run}{asked} --video {config.run}/episode.mp4"
    tell_result(f"next: {film}, or compare_encoders.py for several seeds")
