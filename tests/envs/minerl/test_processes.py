"""Processes that games leave behind are found and ended, and nobody else's are."""

import json
import os
import signal
import subprocess
import sys
import uuid

import pytest

from envs.minerl import processes
from foundation.errors import UserError


@pytest.fixture
def mark():
    """Return a mark of this test alone: tests of this file run at the same time, and each sees the others' processes."""
    return f"a test {uuid.uuid4()}"


@pytest.fixture
def sleeper(mark):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, processes.MARK: mark})
    yield child
    child.kill()
    child.wait()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"minerl-perception-{os.getuid()}"


def dead_run(home, records):
    """Make the folder of a run that has ended without cleaning up."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    driver = processes.Started(child.pid, 1)
    child.wait()
    folder = home / processes._name(driver)
    folder.mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    (folder / "game.json").write_text(records)
    return folder


def test_a_process_is_found_by_its_mark_and_ended_even_when_it_stands_still(sleeper, mark):
    os.kill(sleeper.pid, signal.SIGSTOP)
    found = processes.marked(mark)
    assert [process.pid for process in found] == [sleeper.pid]
    assert sleeper.pid in [process.pid for process in processes.descendants(os.getpid())]
    processes.end(found)
    assert not processes.lives(found[0])
    assert processes.marked(mark) == []


def test_what_a_dead_run_left_is_ended_and_its_folder_removed(sleeper, home):
    folder = dead_run(home, json.dumps([processes.identify(sleeper.pid)]))
    assert [process.pid for process in processes.end_stale()] == [sleeper.pid]
    assert sleeper.wait(60) == -signal.SIGKILL
    assert not folder.exists()


def test_a_game_whose_run_was_killed_before_it_was_recorded_is_ended_too(sleeper, home):
    folder = dead_run(home, "[]")
    code = "print(1, flush=True); import time; time.sleep(60)"
    place = {**os.environ, "MALMO_MINECRAFT_OUTPUT_LOGDIR": f"{folder}/game-1"}
    with subprocess.Popen([sys.executable, "-c", code], env=place, stdout=subprocess.PIPE) as starting:
        starting.stdout.readline()
        assert [process.pid for process in processes.end_stale()] == [starting.pid]
    assert sleeper.poll() is None


def test_a_process_with_a_recycled_id_is_never_touched(sleeper, home):
    dead_run(home, json.dumps([[sleeper.pid, processes.identify(sleeper.pid).since - 1]]))
    assert processes.end_stale() == []
    assert sleeper.poll() is None


def test_what_living_runs_and_other_machines_started_is_left_alone(sleeper, home):
    theirs = processes.identify(sleeper.pid)
    processes.write_down("game", [theirs])
    elsewhere = home / f"another-machine.1.{os.getpid()}.1"
    elsewhere.mkdir()
    (elsewhere / "game.json").write_text(json.dumps([theirs]))
    assert processes.end_stale() == []
    assert sleeper.poll() is None
    assert elsewhere.exists()
    assert processes.own_folder().exists()


@pytest.mark.parametrize("records", ["", "[[1", '{"a": 1}', "[1, 2]"])
def test_a_damaged_record_ends_nothing(records, home):
    folder = dead_run(home, records)
    assert processes.end_stale() == []
    assert not folder.exists()


def test_a_folder_that_others_can_write_to_is_refused(home):
    home.mkdir(parents=True)
    home.chmod(0o777)
    with pytest.raises(UserError, match="TMPDIR"):
        processes.end_stale()
