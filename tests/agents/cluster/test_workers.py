"""Ray workers: a job that fails or takes its worker down keeps no other from finishing; signals save."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agents.cluster.board import Progress
from agents.cluster.resources import gpu_share
from agents.cluster.worker import Job, Outcome
from agents.cluster.workers import run_jobs
from foundation.errors import UserError
from foundation.local_ray import local_ray
from foundation.signals import stop_signals

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def one_cpu():
    with local_ray(1):
        yield


def test_failures_and_deaths_are_outcomes_like_others(one_cpu, tmp_path) -> None:
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

    def fill_disk(_, report):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    unlucky = [Job("again", again, tmp_path / "again"), Job("file", lose_file, tmp_path / "file")]
    failing = [Job("fail", fail, 0), Job("disk", fill_disk, 0), Job("mistake", mistake, 0), Job("die", die, 0)]
    jobs = [*failing, *unlucky, Job("one", double, 1), Job("two", double, 2)]
    outcomes, seen, restarts, places = {}, {}, {}, {}

    def watch(progress: Progress) -> None:
        seen.update(progress.steps)
        restarts.update(progress.restarts)
        places.update(progress.places)

    assert run_jobs(jobs, 1, lambda one: outcomes.update({one.key: one}), watch, retries=1, shared=tmp_path) is None
    assert {key: (one.status, one.restarts) for key, one in outcomes.items()} == {
        "fail": ("failed", 0),
        "disk": ("failed", 0),
        "mistake": ("failed", 0),
        "die": ("failed", 1),
        "again": ("finished", 1),
        "file": ("finished", 1),
        "one": ("finished", 0),
        "two": ("finished", 0),
    }
    assert outcomes["fail"].message == "ZeroDivisionError: by nothing"
    assert (outcomes["mistake"].message, outcomes["mistake"].user_error) == ("the user can mend this", True)
    assert outcomes["disk"].user_error
    assert "No space left on device" in outcomes["disk"].message
    assert "free some space" in outcomes["disk"].message
    assert "died" in outcomes["die"].message
    assert (outcomes["one"].value, outcomes["two"].value) == (2, 4)
    assert seen == {"one": 1, "two": 2}
    assert restarts == {"die": 1, "again": 1, "file": 1}
    assert all("1 CPU" in place for place in places.values())


@pytest.mark.extended
def test_where_a_run_is_outlives_what_it_reports_to_and_only_a_second_signal_ends_it_at_once(one_cpu, tmp_path, monkeypatch) -> None:
    from ray._private.state import actors

    monkeypatch.setattr("foundation.signals._ONE_SIGNAL_SECONDS", 0.0)
    killed = tmp_path / "killed"

    def work(marker, report):
        report(1, "")
        while not marker.exists():
            time.sleep(0.05)
        report(2, "")
        time.sleep(600)

    places = []

    def watch(progress: Progress) -> None:
        if progress.steps.get("run") == 1 and not killed.exists():
            boards = [one for one in actors().values() if one["ActorClassName"] == "Board" and one["State"] == "ALIVE"]
            os.kill(boards[-1]["Pid"], signal.SIGKILL)
            killed.touch()
        if progress.steps.get("run") == 2:
            places.append(progress.places.get("run"))
            os.kill(os.getpid(), signal.SIGINT)

    outcomes: list[Outcome] = []
    assert run_jobs([Job("run", work, killed), Job("waits", work, killed)], 1, outcomes.append, watch) == signal.SIGINT
    assert [(one.key, one.status) for one in outcomes] == [("run", "stopped")]
    # after the first signal it was still there: it could have saved
    assert places[0]
    assert places[1]


def test_a_signal_that_is_passed_on_twice_is_one() -> None:
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGTERM]


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
