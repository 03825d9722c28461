"""Ray workers: a job that fails or takes its worker down keeps no other from finishing; signals save."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agents.cluster import gpu_share, local_ray
from agents.workers import Job, Progress, run_jobs
from foundation.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_failures_and_deaths_are_outcomes_like_others(tmp_path) -> None:
    def double(number, report):
        report(number, "")
        return 2 * number

    def fail(_, report):
        raise ZeroDivisionError("by nothing")

    def mistake(_, report):
        raise UserError("the user can mend this")

    def die(_, report):
        os._exit(1)

    def again(marker, report):
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return "lived"

    def lose_file(marker, report):
        if not marker.exists():
            marker.touch()
            raise OSError("the file system is away")
        return "read"

    unlucky = [Job("again", again, tmp_path / "again"), Job("file", lose_file, tmp_path / "file")]
    jobs = [Job("fail", fail, 0), Job("mistake", mistake, 0), Job("die", die, 0), *unlucky, Job("one", double, 1), Job("two", double, 2)]
    outcomes, seen, restarts, places = {}, {}, {}, {}

    def watch(progress: Progress) -> None:
        seen.update(progress.steps)
        restarts.update(progress.restarts)
        places.update(progress.places)

    with local_ray(1):
        received = run_jobs(jobs, 1, lambda one: outcomes.update({one.key: one}), watch, retries=1, shared=tmp_path)
    assert received is None
    assert {key: (one.status, one.restarts) for key, one in outcomes.items()} == {
        "fail": ("failed", 0),
        "mistake": ("failed", 0),
        "die": ("failed", 1),
        "again": ("finished", 1),
        "file": ("finished", 1),
        "one": ("finished", 0),
        "two": ("finished", 0),
    }
    assert outcomes["fail"].message == "ZeroDivisionError: by nothing"
    assert (outcomes["mistake"].message, outcomes["mistake"].user_error) == ("the user can mend this", True)
    assert "died" in outcomes["die"].message
    assert (outcomes["one"].value, outcomes["two"].value) == (2, 4)
    assert seen == {"one": 1, "two": 2}
    assert restarts == {"die": 1, "again": 1, "file": 1}
    assert all("1 CPU" in place for place in places.values())


@pytest.mark.parametrize(("gpus", "workers"), [(1, 1), (1, 7), (2, 3), (3, 2), (4, 16), (8, 1)])
def test_all_workers_find_a_gpu_at_the_same_time(gpus: int, workers: int) -> None:
    share = gpu_share(gpus, workers)
    assert 0 < share <= 1
    assert gpus * int(1 / share + 1e-9) >= workers


@pytest.mark.slow
def test_a_terminated_command_saves_what_a_rerun_needs(tmp_path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "train_agent.py", "debug", "--control", "pixels", "--run", str(run)]
    process = subprocess.Popen([*command, "--steps", "100000", "--checkpoint-every", "100000"], cwd=ROOT)
    metrics = run / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert (run / "resume.pt").is_file()
    assert (run / "agent.safetensors").is_file()
    assert not (run / "result.json").exists()


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: Any) -> None:
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(UserError, match=r"Ray did not start on this machine \(The current node timed out during startup\.\)"), local_ray(1):
        pass
