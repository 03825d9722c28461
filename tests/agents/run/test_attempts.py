"""A run's folder tells how often its training was started and how each time ended, and waits for the lock of one that is dying."""

import json
import threading
import time
from dataclasses import replace

import pytest

from agents.jobs import Stopped
from agents.run.attempts import attempt, attempts, lock_patience
from agents.run.training import train_agent
from foundation.errors import UserError
from foundation.files import exclusive_lock


def events(folder) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "attempts.jsonl").read_text().splitlines()]


def test_a_result_says_how_often_training_was_started(small_run) -> None:
    config = small_run()
    with pytest.raises(Stopped):
        train_agent(config, lambda steps, note: steps >= 64)
    assert train_agent(config, lambda steps, note: False)["attempts"] == 2
    starts = [json.loads(line) for line in (config.run / "attempts.jsonl").read_text().splitlines()][::2]
    assert [one["steps"] for one in starts] == [0, 64]
    assert events(config.run) == ["start", "stopped", "start", "finished"]
    train_agent(config, lambda steps, note: False)
    assert attempts(config.run) == 2, "a finished run is not started again"
    with pytest.raises(UserError, match="holds a run with seed = 0"):
        train_agent(replace(config, seed=1), lambda steps, note: False)
    assert attempts(config.run) == 2, "a refused command is no attempt"


def test_more_steps_for_a_finished_run_are_no_restart(small_run) -> None:
    config = small_run()
    steps = config.steps
    assert train_agent(config, lambda steps, note: False)["attempts"] == 1
    assert train_agent(replace(config, steps=steps + 64), lambda steps, note: False)["attempts"] == 1
    assert events(config.run) == ["start", "finished"] * 2
    with pytest.raises(Stopped):
        train_agent(replace(config, steps=steps + 192), lambda done, note: done >= steps + 128)
    assert train_agent(replace(config, steps=steps + 192), lambda steps, note: False)["attempts"] == 2


def test_an_attempt_that_was_killed_has_a_start_alone(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), attempt(tmp_path, 0):
        raise ZeroDivisionError
    assert events(tmp_path) == ["start", "failed"]
    killed = {"event": "start", "host": "another", "process": 1, "steps": 32}
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write(json.dumps(killed) + "\n")
    assert attempts(tmp_path) == 2


def test_a_line_that_a_full_disk_cut_off_costs_no_other(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), attempt(tmp_path, 0):
        with (tmp_path / "attempts.jsonl").open("a") as file:
            file.write('{"time": "2026-01-01T00:00:00+00:00", "eve')
        raise ZeroDivisionError
    assert lock_patience(tmp_path) < 60
    with attempt(tmp_path, 32):
        pass
    assert attempts(tmp_path) == 2


def test_the_error_of_a_full_disk_is_not_hidden_by_that_of_writing_it_down(tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match="free some space"), attempt(tmp_path, 0):
        (tmp_path / "attempts.jsonl").unlink()
        (tmp_path / "attempts.jsonl").symlink_to("/dev/full")
        raise UserError("free some space")


def test_the_lock_of_a_lost_node_is_waited_for_longer_than_one_of_this_machine(tmp_path) -> None:
    here = lock_patience(tmp_path)
    (tmp_path / "attempts.jsonl").write_text(json.dumps({"event": "start", "host": "another", "process": 1, "steps": 0}) + "\n")
    assert lock_patience(tmp_path) > 60 > here > 1


def test_a_lock_is_waited_for_as_long_as_told(tmp_path) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive_lock(tmp_path, "training"):
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    with pytest.raises(UserError, match="another process is training here"), exclusive_lock(tmp_path, "training", wait_seconds=0.2):
        pass
    threading.Timer(0.3, release.set).start()
    before = time.monotonic()
    with exclusive_lock(tmp_path, "training", wait_seconds=10):
        assert time.monotonic() > before
    holder.join()
