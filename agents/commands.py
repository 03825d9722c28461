"""The commands `train_agent.py`, `compare_encoders.py` and `play_agent.py`, behind their thin scripts."""

from collections.abc import Sequence
from typing import Any

from agents.config import AgentRun, read_command
from agents.run import available_device, read_result, train_agent
from agents.workers import Job, Outcome, Progress, local_ray, run_jobs
from foundation.errors import UserError
from foundation.progress import Advance, console, progress_bar

TRAIN = """Train an agent with a frozen encoder's latents, or a control, as its observation. Running the command again resumes."""


def train(argv: Sequence[str]) -> int:
    """Train one agent in one Ray worker; return the exit status."""
    config = read_command(AgentRun, TRAIN, argv)
    before = read_result(config.run)
    started = before["steps"] if before else 0
    outcomes: list[Outcome] = []
    console.print("starting a Ray worker", soft_wrap=True)
    with local_ray(cpus=1), progress_bar(f"training {config.run.name}", config.steps) as advance:
        job = Job("run", train_agent, config, available_device(config.device) == "cuda")
        received = run_jobs([job], 1, outcomes.append, _Total(advance))
    if received is not None:
        console.print(f"stopped; {config.run} holds the checkpoint: run the same command again to go on", soft_wrap=True)
        return 128 + received
    _raise_failure(outcomes[0])
    _show_trained(config, outcomes[0].value, finished_before=started >= config.steps)
    return 0


class _Total:
    """Shows the steps of all jobs in one bar."""

    def __init__(self, advance: Advance, done: int = 0) -> None:
        self.advance, self.shown = advance, done

    def __call__(self, progress: Progress) -> None:
        total = sum(progress.steps.values())
        notes = [note for note in progress.notes.values() if note]
        if total != self.shown:
            self.advance(total - self.shown, notes[-1] if notes else None)
            self.shown = total


def _raise_failure(outcome: Outcome) -> None:
    if outcome.status == "failed":
        if outcome.user_error:
            raise UserError(outcome.message)
        raise RuntimeError(outcome.details or outcome.message)


def _show_trained(config: AgentRun, result: dict[str, Any], finished_before: bool) -> None:
    if finished_before:
        print(f"{config.run} is finished already, at {result['steps']:,} steps; more --steps go on from there")
    device = result["device"]
    what = config.control or result["encoder"]["name"]
    print(
        f"{what}, seed {config.seed}: mean return {result['final_return']:.2f} over {len(result['final_returns'])} evaluation episodes "
        f"after {result['steps']:,} steps ({result['seconds']:.0f} s; policy on {device['policy']}"
        + (f", encoder on {device['encoder']})" if device["encoder"] else ")")
    )
    print(f"wrote {config.run}: agent.safetensors, agent.json, result.json, metrics.jsonl, tensorboard/, pictures/")
    print(f"next: python play_agent.py {config.run} --video {config.run}/episode.mp4, or compare_encoders.py for several seeds")
