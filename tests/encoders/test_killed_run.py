"""A run of train_encoder.py that is killed again and again ends as one that was left alone."""

import json
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from encoders.training.state import read_resume

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 60
CHECKPOINT_EVERY = 5


def command(store: Path, run: Path) -> list[str]:
    options = {
        "store": store,
        "run": run,
        "steps": STEPS,
        "threads": 1,
        "device": "cpu",
        "training.batch-size": 2,
        "training.checkpoint-every": CHECKPOINT_EVERY,
        "training.validation-every": 20,
        "training.validation-frames": 8,
        "training.log-every": 1,
    }
    return ["train_encoder.py", "debug", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]


def start(store: Path, run: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *command(store, run)], cwd=REPOSITORY, stderr=subprocess.DEVNULL)


def run_to_its_end(store: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command in this process, which has torch imported."""
    monkeypatch.setattr(sys, "argv", command(store, run))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / "train_encoder.py"), run_name="__main__")
    assert not ended.value.code


def steps_recorded(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def kill_at(process: subprocess.Popen, run: Path, step: int) -> int:
    """Kill the process once its record has reached `step`; return the last step it recorded."""
    while process.poll() is None and max(steps_recorded(run), default=0) < step:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return max(steps_recorded(run), default=0)


@pytest.mark.slow
def test_a_run_killed_at_random_points_ends_with_the_same_bits(video_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run_to_its_end(video_store, straight, monkeypatch)
    draw = random.Random()
    for step in (draw.randrange(STEPS // 5, STEPS * 3 // 5), draw.randrange(STEPS * 3 // 5, STEPS * 9 // 10)):
        reached = kill_at(start(video_store, killed), killed, step)
        repeated = reached - read_resume(killed)["step"]
        assert repeated <= CHECKPOINT_EVERY
    run_to_its_end(video_store, killed, monkeypatch)

    expected, found = (load_file(run / "encoder.safetensors") for run in (straight, killed))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert_equal_weights(read_resume(straight)["model"], read_resume(killed)["model"])
    assert steps_recorded(killed) == sorted(set(steps_recorded(killed))) == steps_recorded(straight)
    sessions = [json.loads(line)["session"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert sessions == sorted(sessions)
    # a late second kill may find the last step done
    assert set(sessions) >= {1, 2}


def assert_equal_weights(weights: dict[str, Any], others: dict[str, Any]) -> None:
    assert all(np.array_equal(weights[name].numpy(), others[name].numpy()) for name in weights)
