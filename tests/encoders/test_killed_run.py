"""A run of train_encoder.py that is killed again and again ends as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

import frames
from encoders.training.state import read_resume

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 60
CHECKPOINT_EVERY = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of moving squares, built from three short videos."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for index in range(3):
        writer = cv2.VideoWriter(str(folder / f"video{index}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 64))
        ground, square = rng.integers(0, 256, (2, 3), dtype=np.uint8)
        for position in range(40):
            picture = np.full((64, 64, 3), ground, np.uint8)
            picture[position : position + 20, 20:40] = square
            writer.write(picture)
        writer.release()
    frames.build_store(folder, folder / "store")
    return folder / "store"


def start(store: Path, run: Path) -> subprocess.Popen:
    options = {
        "store": store,
        "run": run,
        "steps": STEPS,
        "threads": 1,
        "training.batch-size": 2,
        "training.checkpoint-every": CHECKPOINT_EVERY,
        "training.validation-every": 20,
        "training.validation-frames": 8,
        "training.log-every": 1,
    }
    command = [sys.executable, "train_encoder.py", "debug"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, text=True)


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
def test_a_run_killed_at_random_points_ends_with_the_same_bits(store: Path, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    alone = start(store, straight)
    assert alone.wait() == 0, alone.communicate()[1]
    for step in sorted(random.Random().sample(range(STEPS // 5, STEPS * 4 // 5), 2)):
        reached = kill_at(start(store, killed), killed, step)
        repeated = reached - read_resume(killed)["step"]
        assert repeated <= CHECKPOINT_EVERY
    last = start(store, killed)
    assert last.wait() == 0, last.communicate()[1]

    expected, found = (load_file(run / "encoder.safetensors") for run in (straight, killed))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert_equal_weights(read_resume(straight)["model"], read_resume(killed)["model"])
    assert steps_recorded(killed) == sorted(set(steps_recorded(killed))) == steps_recorded(straight)
    sessions = [json.loads(line)["session"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert sessions == sorted(sessions)
    assert set(sessions) == {1, 2, 3}


def assert_equal_weights(weights: dict[str, Any], others: dict[str, Any]) -> None:
    assert all(np.array_equal(weights[name].numpy(), others[name].numpy()) for name in weights)
