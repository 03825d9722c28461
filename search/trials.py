"""One trial in its worker: its encoder where that varies, then its agents, each an ordinary run that can be resumed."""

import hashlib
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from agents.jobs import Report, Stopped
from agents.run.config import AgentRun
from agents.run.training import train_agent
from encoders.artifact import read_info
from foundation.documents import read_lines
from foundation.errors import UserError
from foundation.files import exclusive_lock, own_file, write_atomically

_ROOT = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.5
_TRAINED = "trained.json"


@dataclass(frozen=True)
class EncoderPlan:
    """An encoder that a trial trains first, or finds trained by another one."""

    folder: Path
    """Named by what it holds, so that equal encoders are trained once; the encoder itself is in `encoder/`."""
    preset: dict[str, Any]
    store: Path
    device: str
    threads: int

    @property
    def encoder(self) -> Path:
        return self.folder / "encoder"

    @property
    def trained(self) -> bool:
        return (self.folder / _TRAINED).is_file()

    def command(self) -> list[str]:
        """Return the words of the command that trains it, and resumes."""
        words = ["train_encoder.py", str(self.folder / "preset.yaml"), "--store", str(self.store), "--run", str(self.encoder)]
        return [*words, "--steps", str(self.preset["steps"]), "--device", self.device, "--threads", str(self.threads)]


@dataclass(frozen=True)
class TrialPlan:
    """What a trial does."""

    number: int
    runs: tuple[AgentRun, ...]
    encoder: EncoderPlan | None = None


@dataclass(frozen=True)
class Reached:
    """How far a trial came, and what its agents' evaluations there came to on average."""

    step: int
    score: float

    def ends(self, plan: TrialPlan) -> bool:
        """Whether all agents of a trial have all their steps."""
        return all(self.step >= run.steps for run in plan.runs)


def encoder_plan(folder: Path, preset: dict[str, Any], store: Path, fingerprint: str, device: str, threads: int) -> EncoderPlan:
    """Return the plan of an encoder in a folder below `folder` that its preset and its store's fingerprint name."""
    key = hashlib.sha256(json.dumps([preset, fingerprint], sort_keys=True).encode()).hexdigest()[:12]
    return EncoderPlan(folder / key, preset, store, device, threads)


def advance(plan: TrialPlan, rung: int | None, report: Report) -> Reached:
    """Take a trial's agents to their first evaluation at `rung` steps or later, which may be their last, or to their end (None).

    The agents train one after the other, each resumed from its checkpoint: running this again after a crash goes on. `report` gets
    the steps of all agents together. Raises `Stopped` when it asks to stop, and what `train_agent` raises.
    """
    if plan.encoder is not None and not plan.encoder.trained:
        train_encoder(plan.encoder, report)
    points, before = [], 0
    for run in plan.runs:
        points.append(_train_to(run, rung, before, report))
        before += points[-1].step
    return Reached(min(point.step for point in points), float(np.mean([point.score for point in points])))


def evaluated(folder: Path, rung: int) -> Reached | None:
    """Return a run's first evaluation at `rung` steps or later, or None."""
    for line in read_lines(folder / "metrics.jsonl"):
        if isinstance(returns := line.get("evaluation/returns"), list) and line.get("step", 0) >= rung:
            return Reached(line["step"], float(np.mean(returns)))
    return None


def train_encoder(plan: EncoderPlan, report: Report) -> None:
    """Train an encoder with `train_encoder.py` in a process of its own; wait where another trial trains the same one.

    Raises `Stopped` when `report` asks to stop, and `UserError` with the command's own message where it fails.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while not _locked(stack, plan.folder):
            _wait(report, "waiting for an equal encoder")
        if plan.trained:
            return
        with ExitStack() as left_behind:
            # a command goes on whose worker was killed
            while not _locked(left_behind, plan.encoder):
                _wait(report, "waiting for the encoder's training to end")
        write_atomically(plan.folder / "preset.yaml", yaml.safe_dump(plan.preset, sort_keys=False))
        with own_file(plan.folder / "output.txt").open("wb") as output:
            command = [sys.executable, *plan.command()]
            # a session of its own: Ctrl-C in the terminal reaches the search alone, which passes it on
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=_ROOT, start_new_session=True)
            try:
                while process.poll() is None:
                    _wait(report, f"training encoder {plan.folder.name}")
            finally:
                process.terminate()
                status = process.wait()
        if status:
            raise UserError(f"its encoder failed: {_last_line(plan.folder / 'output.txt')} (details in {plan.folder / 'output.txt'})")
        facts = {"command": plan.command(), "weights_sha256": read_info(plan.encoder).weights_sha256}
        write_atomically(plan.folder / _TRAINED, json.dumps(facts, indent=2) + "\n")


def _train_to(run: AgentRun, rung: int | None, before: int, report: Report) -> Reached:
    asked_to_stop = False

    def boundary(steps: int, note: str) -> bool:
        nonlocal asked_to_stop
        asked_to_stop = report(before + steps, note)
        return asked_to_stop or (rung is not None and steps >= rung and evaluated(run.run, rung) is not None)

    point = None if rung is None else evaluated(run.run, rung)
    # at its end a run has a result, or is about to write it
    if point is not None and point.step < run.steps:
        return point
    try:
        result = train_agent(run, boundary)
    except Stopped:
        if asked_to_stop or rung is None:
            raise
        point = evaluated(run.run, rung)
        assert point is not None
        return point
    return Reached(result["steps"], result["final_return"])


def _locked(stack: ExitStack, folder: Path) -> bool:
    try:
        stack.enter_context(exclusive_lock(folder, "training an encoder"))
    except UserError:
        return False
    return True


def _wait(report: Report, note: str) -> None:
    if report(0, note):
        raise Stopped
    time.sleep(_POLL_SECONDS)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it printed nothing"
