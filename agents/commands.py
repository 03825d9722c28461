"""The commands `train_agent.py`, `compare_encoders.py` and `play_agent.py`, behind their thin scripts."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.cluster import local_cpus, ray_cluster, run_needs
from agents.comparison import Comparison
from agents.config import AgentRun, read_command, read_grid
from agents.environment import check_environment
from agents.grid import RUNS
from agents.progress_table import grid_progress
from agents.report import JoinConfig, join_reports, write_report
from agents.representation import reading_line
from agents.run import available_device, finished_result, train_agent
from agents.summary import Summary
from agents.tables import failures, not_asked_line, print_table
from agents.total_steps import TotalSteps
from agents.workers import Job, Outcome, run_jobs
from foundation.errors import UserError
from foundation.presets import parse
from foundation.progress import console, progress_bar, say

TRAIN = """Train an agent with a frozen encoder's latents, or a control, as its observation. Running the command again resumes."""
COMPARE = """Compare encoders and controls by episode return, over tasks, algorithms and seeds: name environment presets first, and agent
presets with --agent. Running the command again, or one with more, runs only what is missing.

One report of several comparisons: python compare_encoders.py join FOLDER FOLDER --run OUT"""
JOIN = """Write one report of several finished comparisons: rows of one task together, and all tasks with normalised scores."""


def train(argv: Sequence[str]) -> int:
    """Train one agent in one Ray worker; return the exit status."""
    config = read_command(AgentRun, TRAIN, argv)
    result = finished_result(config)
    if result is not None:
        print(f"{config.run} is finished already, at {result['steps']:,} steps; more --steps go on from there")
        _show_trained(config, result)
        return 0
    # what cannot work is said before Ray starts and before the run's folder is made
    if config.ray.address is None:
        available_device(config.device)
    check_environment(config.environment, config.algorithm)
    if config.encoder is not None:
        say(reading_line(config.encoder, config.latents))
    outcomes: list[Outcome] = []
    console.print("starting a Ray worker", soft_wrap=True)
    with ray_cluster(config.ray, local_cpus(config, 1)), progress_bar(f"training {config.run.name}", config.steps) as advance:
        job, needs = Job("run", train_agent, config), run_needs(config)
        received = run_jobs([job], 1, outcomes.append, TotalSteps(advance), needs, config.ray.retries, shared=config.run)
    for outcome in outcomes:
        _raise_failure(outcome)
    if received is not None:
        say(f"stopped; run the same command again to go on with {config.run}")
        return 128 + received
    _show_trained(config, outcomes[0].value)
    return 0


def compare(argv: Sequence[str]) -> int:
    """Run what is missing of a comparison and write its report; return the exit status: 1 where a run failed."""
    if argv and argv[0] == "join":
        return join(argv[1:])
    comparison = Comparison(read_grid(COMPARE, argv))
    comparison.check()
    folder = comparison.config.run
    for encoder in comparison.config.encoders:
        say(reading_line(encoder))
    say(comparison.extent())
    if comparison.missing():
        say(f"learning curves of all runs: tensorboard --logdir {folder / RUNS}")
    with grid_progress(comparison.parts) as table:
        received = comparison.run(table.ended, table.watch)
    if received is not None:
        say(f"stopped; {folder} holds what is done: run the same command again to go on")
        return 128 + received
    say("writing the report")
    status = _show_report(write_report(comparison, shlex.join(["python", "compare_encoders.py", *argv])), folder)
    for sentence in not_asked_line(comparison.not_asked()):
        print(sentence)
    return status


def join(argv: Sequence[str]) -> int:
    """Write one report of several comparisons; return the exit status: 1 where a run of theirs failed."""
    config = parse(JoinConfig, JOIN, argv, program="compare_encoders.py join")
    config.check()
    return _show_report(join_reports(config.folders, config.run, shlex.join(["python", "compare_encoders.py", "join", *argv])), config.run)


def _show_report(summaries: list[Summary], folder: Path) -> int:
    print_table(summaries)
    print(f"wrote {folder}: report.html, comparison.json, comparison.csv, rows.csv, figures as PNG and SVG")
    print(f"next: open {folder / 'report.html'} in a browser")
    return 1 if failures(summaries) else 0


def _raise_failure(outcome: Outcome) -> None:
    if outcome.status == "failed":
        if outcome.user_error:
            raise UserError(outcome.message)
        if outcome.died:
            raise UserError(f"{outcome.message}; running the same command again goes on from the last checkpoint")
        raise RuntimeError(outcome.details or outcome.message)


def _show_trained(config: AgentRun, result: dict[str, Any]) -> None:
    device = result["device"]
    what = config.control or result["encoder"]["name"]
    print(
        f"{what}, seed {config.seed}: mean return {result['final_return']:.2f} over {len(result['final_returns'])} evaluation episodes "
        f"after {result['steps']:,} steps ({result['seconds']:.0f} s; policy on {device['policy']}"
        + (f", encoder on {device['encoder']})" if device["encoder"] else ")")
    )
    print(f"wrote {config.run}: agent.safetensors, agent.json, result.json, metrics.jsonl, tensorboard/, pictures/")
    print(f"next: python play_agent.py {config.run} --video {config.run}/episode.mp4, or compare_encoders.py for several seeds")
