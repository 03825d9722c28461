"""The command `demo.py`, behind its door: the main job, end to end, from frames to encoders compared by episode return.

It runs the product's own commands one after the other and prints each as you would type it. Rerunning resumes.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from foundation.errors import UserError
from foundation.presets import command_line
from foundation.progress import console, say, tell_result

ROOT = Path(__file__).resolve().parents[1]

DEMO = """The main job, end to end. Running the command again resumes. A check of seconds: python demo.py debug --run OUT"""


@dataclass
class Demo:
    """What the demo runs, and how long."""

    run: Path
    """Folder for all that the demo makes."""
    environment: str
    """Environment whose frames are recorded."""
    task: str
    """Preset of configs/env/ that the agents play."""
    frames: int
    """Frames to record."""
    encoders: dict[str, int]
    """Presets of configs/encoder/, each with its optimizer steps; the controls mirror the first, and it alone sees `recordings`."""
    agent: str
    """Preset of configs/agent/."""
    agent_steps: int
    """Agent steps of each run."""
    seeds: int
    """Agents a row."""
    controls: list[str] = field(default_factory=lambda: ["pixels", "untrained", "pca"])
    """Rows beside the encoders, as for compare_encoders.py."""
    seed: int = 0
    """Of the frames, the encoders and the agents: another one gives another demo from beginning to end."""
    evaluation_every: int = 3000
    """Agent steps between two points of a learning curve."""
    final_episodes: int = 16
    """Evaluation episodes of each finished agent."""
    record: list[str] = field(default_factory=list)
    """What is recorded beside the frames: state, segmentation; the control supervised needs the first, and probes read both."""
    judges: dict[str, list[str]] = field(default_factory=dict)
    """Judges of each encoder; all that apply where none is named."""
    encoder: str | None = None
    """Pretrain this preset alone, in place of `encoders`."""
    encoder_steps: int | None = None
    """Optimizer steps of every encoder, in place of those that `encoders` says, or the preset's own where `encoders` lacks it."""
    recordings: Path | None = None
    """A folder of MineRL recordings or videos to pretrain the first encoder on instead; agents still play the task."""

    def pretrained(self) -> dict[str, int | None]:
        """Return the encoders' presets, each with its steps; None where its preset says how many."""
        presets = list(self.encoders) if self.encoder is None else [self.encoder]
        # recordings of somebody else may hold pictures and nothing else, from which the first learns
        presets = presets[:1] if self.recordings else presets
        return {preset: self.encoder_steps or self.encoders.get(preset) for preset in presets}

    def commands(self) -> dict[str, list[str]]:
        """Return the stages by name, each the arguments of one of the product's commands."""
        store = str(self.run / "frames")
        folders = {preset: str(self.run / "encoders" / Path(preset).stem) for preset in self.pretrained()}
        stages = {"Collect frames": ["make_frames.py", "build", *self._source(), "--store", store]}
        for preset, steps in self.pretrained().items():
            asked = ["--seed", str(self.seed), *([] if steps is None else ["--steps", str(steps)])]
            stages[f"Pretrain {preset}"] = ["train_encoder.py", preset, "--store", store, "--run", folders[preset], *asked]
        for preset in folders:
            judges = ["--judges", *self.judges[preset]] if self.judges.get(preset) else []
            stages[f"Evaluate {preset}"] = ["evaluate_encoder.py", folders[preset], "--store", store, *judges]
        comparison = [self.task, "--agent", self.agent, "--encoders", *folders.values(), "--controls", *self.controls]
        comparison += ["--seeds", str(self.seeds), "--first-seed", str(self.seed * self.seeds)]
        comparison += ["--steps", str(self.agent_steps), "--evaluation.every", str(self.evaluation_every)]
        comparison += ["--evaluation.final-episodes", str(self.final_episodes), "--run", str(self.run / "comparison")]
        return {**stages, "Train agents and compare": ["compare_encoders.py", *comparison]}

    def _source(self) -> list[str]:
        if self.recordings:
            return ["--source", str(self.recordings)]
        record = ["--record", *self.record] if self.record else []
        return ["--source", self.environment, "--frames", str(self.frames), "--seed", str(self.seed), *record]


def demonstrate(argv: Sequence[str]) -> int:
    """Run the stages; a failing one ends the demo with its status."""
    if not argv or argv[0].startswith("--"):
        argv = ["voxel", *argv]
    demo = command_line("demo", Demo, DEMO, argv)
    if demo.recordings and not demo.recordings.is_dir():
        raise UserError(f"{demo.recordings}: no such folder; RECORDINGS must name a folder of MineRL recordings or videos")
    begun = time.monotonic()
    stages = demo.commands()
    for number, (name, arguments) in enumerate(stages.items(), 1):
        console.rule(Text(f"{number}/{len(stages)}  {name}", style="bold"))
        say(f"$ python {shlex.join(arguments)}", style="dim")
        status = run_stage(arguments)
        # 1 says that some recordings could not be read: listed on screen, and the rest is worth going on with
        if status and not (arguments[0] == "make_frames.py" and status == 1):
            return status
    minutes = (time.monotonic() - begun) / 60
    console.rule(Text("Done", style="bold"))
    tell_result(f"The demo took {minutes:.1f} minutes. The report: {(demo.run / 'comparison' / 'report.html').resolve()}")
    return 0


def run_stage(arguments: list[str]) -> int:
    """Run one command and return its status. A signal is the command's to handle: it saves, and the demo waits for that."""
    stage = subprocess.Popen([sys.executable, str(ROOT / arguments[0]), *arguments[1:]])
    # Ctrl-C reaches the command by itself, from the terminal
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: stage.terminate()),
    }
    try:
        return stage.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
