import fcntl
import os
import shutil
import signal
import subprocess
import sys

import pytest

from foundation.errors import UserError
from foundation.files import atomic_write, exclusive_lock, own_file, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UserError, match="No space left"), atomic_write(path), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "a" / "b", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "folder", "x")


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        write_atomically(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_second_process_is_refused_and_a_dead_one_is_not(tmp_path):
    code = "import sys; from foundation.files import exclusive_lock\nwith exclusive_lock(sys.argv[1], 'training'): print('held')"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with exclusive_lock(tmp_path, "training"):
        refused = subprocess.run(command, capture_output=True, text=True)
        assert "another process is training here" in refused.stderr
    assert subprocess.run(command, capture_output=True, text=True).stdout == "held\n"


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    (tmp_path / "resume.pt").write_text("whole")
    (tmp_path / ".notes.tmp").write_text("somebody's own")
    child = os.fork()
    if not child:
        with atomic_write(tmp_path / "resume.pt") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 3
    with exclusive_lock(tmp_path, "training"):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".notes.tmp", "resume.pt"}
    assert (tmp_path / "resume.pt").read_text() == "whole"


def test_nothing_is_written_through_a_link(tmp_path):
    notes, run = tmp_path / "notes.txt", tmp_path / "run"
    run.mkdir()
    notes.write_text("mine")
    (run / "result.json").symlink_to(notes)
    write_atomically(run / "result.json", "{}")
    assert not (run / "result.json").is_symlink()
    (run / "metrics.jsonl").symlink_to(notes)
    with pytest.raises(UserError, match=r"metrics\.jsonl: a link"):
        own_file(run / "metrics.jsonl")
    (run / "attempts.jsonl").hardlink_to(notes)
    own_file(run / "attempts.jsonl").write_text("ours")
    (run / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be written"):
        with exclusive_lock(run, "training"):
            pass
    assert notes.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_of_the_temporary_name_is_not_written_through(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with atomic_write(tmp_path / "x") as file:
        name = os.path.basename(file.name)
    (tmp_path / name).symlink_to(notes)
    write_atomically(tmp_path / "x", "ours")
    assert (notes.read_text(), (tmp_path / "x").read_text()) == ("mine", "ours")


def test_no_folder_is_made_at_the_root_of_the_file_system():
    with pytest.raises(UserError, match="there is no /nonexistent_dir; make it first"):
        write_atomically("/nonexistent_dir/pictures/x.png", b"x")
    assert not os.path.exists("/nonexistent_dir")


def test_a_lock_that_its_last_holder_removed_is_not_taken(tmp_path, monkeypatch):
    flock = fcntl.flock

    def removed_meanwhile(handle, operation):
        shutil.rmtree(tmp_path / "run")
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(UserError, match="another process has just finished training here; run the same command again"):
        with exclusive_lock(tmp_path / "run", "training"):
            pass
