import csv
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore, build_store
from frames.inspecting import verify

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path, noise, write_video):
    for number in range(6):
        write_video(tmp_path / "source" / f"film {number}.avi", noise(40 + number, seed=number))
    return tmp_path / "source"


def build(source, path, **options):
    return build_store(source, path, frame_size=(16, 16), **options)


def test_every_frame_of_every_recording_goes_in(tmp_path, source, noise):
    summary = build(source, tmp_path / "store")
    store = FrameStore(tmp_path / "store")
    assert summary.frames == len(store) == sum(40 + number for number in range(6))
    for number, episode in enumerate(store.episodes):
        assert np.array_equal(store.frames(np.arange(episode.length) + episode.first), noise(40 + number, seed=number))
    assert store.frames_per_second == 20
    assert verify(store) == []
    assert sorted(os.listdir(tmp_path / "store")) == ["data.mdb"]
    assert sorted(os.listdir(tmp_path)) == ["source", "store"]


def test_the_layouts_of_a_folder_meet_in_one_store(tmp_path, noise, write_video, write_minerl):
    write_minerl(tmp_path / "in" / "MineRLTreechop-v0" / "v3_a", noise(25), ticks=20)
    write_video(tmp_path / "in" / "films" / "b.mkv", noise(10, size=48))
    (tmp_path / "in" / "stills").mkdir()
    for number, frame in enumerate(noise(5)):
        cv2.imwrite(str(tmp_path / "in" / "stills" / f"{number}.png"), frame)
    summary = build(tmp_path / "in", tmp_path / "store")
    store = FrameStore(tmp_path / "store")
    assert summary.status == 0
    assert [(e.name, e.length, e.ordered) for e in store.episodes] == [
        ("MineRLTreechop-v0/v3_a", 21, True),
        ("films/b.mkv", 10, True),
        ("stills", 5, False),
    ]
    assert store.array(0, "action.camera").shape == (20, 2)


def test_what_does_not_decode_is_listed_and_the_rest_goes_in(tmp_path, source):
    (source / "broken.mp4").write_bytes(b"\0" * 5000)
    (source / "film 2.avi").write_bytes((source / "film 2.avi").read_bytes()[:3000])
    summary = build(source, tmp_path / "store")
    assert summary.status == 1
    assert [entry.name for entry in summary.left_out] == ["broken.mp4", "film 2.avi"]
    assert "truncated" in summary.left_out[1].reason
    store = FrameStore(tmp_path / "store")
    assert len(store.episodes) == summary.episodes == 5
    assert [entry["name"] for entry in store.meta["left_out"]] == ["broken.mp4", "film 2.avi"]


def test_nothing_is_left_behind_when_nothing_can_be_read(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "broken.mp4").write_bytes(b"\0" * 5000)
    with pytest.raises(UserError, match=r"none of 1 recordings could be read \(broken.mp4"):
        build(tmp_path / "source", tmp_path / "store")
    assert os.listdir(tmp_path) == ["source"]


def test_a_finished_build_is_not_built_again(tmp_path, source):
    build(source, tmp_path / "store")
    before = (tmp_path / "store" / "data.mdb").stat().st_mtime_ns
    summary = build(source, tmp_path / "store")
    assert summary.finished_before
    assert summary.status == summary.decoded == 0
    assert (tmp_path / "store" / "data.mdb").stat().st_mtime_ns == before


def test_a_store_of_something_else_is_never_overwritten(tmp_path, source, noise, write_video):
    build(source, tmp_path / "store")
    with pytest.raises(UserError, match="made with resize = 'squash', not 'crop'"):
        build(source, tmp_path / "store", resize="crop")
    write_video(source / "new.avi", noise(5))
    with pytest.raises(UserError, match=r"new\.avi is not in it"):
        build(source, tmp_path / "store")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="not a frame store"):
        build(source, tmp_path / "notes")


def test_a_frame_size_of_nothing_is_refused(tmp_path, source):
    with pytest.raises(UserError, match="at least 1"):
        build_store(source, tmp_path / "store", frame_size=(0, 64))
    assert os.listdir(tmp_path) == ["source"]


def test_two_processes_do_not_build_the_same_store(tmp_path, source):
    (tmp_path / "store.building").mkdir()
    with open(tmp_path / "store.building" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is building"):
            build(source, tmp_path / "store")


def test_the_order_of_decoding_does_not_matter(tmp_path, source):
    build(source, tmp_path / "one", workers=1)
    build(source, tmp_path / "four", workers=4)
    one, four = FrameStore(tmp_path / "one"), FrameStore(tmp_path / "four")
    assert one.episodes == four.episodes
    assert one.fingerprint == four.fingerprint


def building_process(source: Path, path: Path) -> subprocess.Popen:
    code = f"import frames; frames.build_store({str(source)!r}, {str(path)!r}, frame_size=(16, 16), workers=1)"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_killed_build_goes_on_and_gives_the_same_store(tmp_path, noise, write_video, share):
    for number in range(12):
        write_video(tmp_path / "source" / f"{number}.avi", noise(400, seed=number))
    build(tmp_path / "source", tmp_path / "whole")
    data = tmp_path / "store.building" / "store" / "data.mdb"
    enough = share * (tmp_path / "whole" / "data.mdb").stat().st_size
    process = building_process(tmp_path / "source", tmp_path / "store")
    while process.poll() is None and not (data.exists() and data.stat().st_size > enough):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(UserError, match="still being written"):
        FrameStore(tmp_path / "store")
    with pytest.raises(UserError, match="still being written"):
        FrameStore(data.parent)
    summary = build(tmp_path / "source", tmp_path / "store")
    whole, store = FrameStore(tmp_path / "whole"), FrameStore(tmp_path / "store")
    assert summary.kept >= 1
    assert summary.kept + summary.decoded == 12
    assert store.episodes == whole.episodes
    assert store.fingerprint == whole.fingerprint
    assert verify(store) == []
    assert not (tmp_path / "store.building").exists()


def test_a_recording_that_changed_between_two_runs_is_decoded_again(tmp_path, source, noise, write_video, monkeypatch):
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "store", workers=1)
    monkeypatch.undo()
    write_video(source / "film 0.avi", noise(77, seed=9))
    summary = build(source, tmp_path / "store")
    assert summary.kept == 2
    store = FrameStore(tmp_path / "store")
    assert np.array_equal(store.frames(np.arange(77)), noise(77, seed=9))
    assert verify(store) == []


def test_pictures_that_do_not_decode_are_listed_after_an_interruption_too(tmp_path, noise, monkeypatch):
    for seed, folder in enumerate(("a", "b")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / folder / "good.png"), noise(1, seed)[0])
    (tmp_path / "in" / "a" / "bad.png").write_bytes(b"no picture")
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "in", tmp_path / "store", workers=1)
    monkeypatch.undo()
    summary = build(tmp_path / "in", tmp_path / "store")
    assert [(entry.name, entry.reason) for entry in summary.left_out] == [("a/bad.png", "is neither a PNG nor a JPEG")]
    assert summary.frames == 2


def interrupt_after(monkeypatch, count: int) -> None:
    from frames.writer import StoreWriter

    add = StoreWriter.add

    def interrupted(self, name, *arguments, **options):
        if len(self.committed) >= count:
            raise KeyboardInterrupt
        return add(self, name, *arguments, **options)

    monkeypatch.setattr(StoreWriter, "add", interrupted)


def test_a_full_disk_loses_nothing(tmp_path, source):
    code = (
        "import resource, signal, frames; from foundation.command import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({{limit}}, {resource.RLIM_INFINITY}))\n"
        f"run(lambda: frames.build_store({str(source)!r}, {str(tmp_path / 'store')!r}, frame_size=(16, 16), workers=1).status)"
    )
    full = subprocess.run([sys.executable, "-c", code.format(limit=130_000)], cwd=ROOT, capture_output=True, text=True)
    assert full.returncode == 2
    assert "the disk is full or failing" in full.stderr.splitlines()[-1]
    summary = build(source, tmp_path / "store")
    assert summary.kept >= 1
    assert verify(FrameStore(tmp_path / "store")) == []


def test_real_recordings_have_the_frames_of_their_manifest(tmp_path, real_recordings):
    with open(real_recordings / "manifest.csv", newline="") as file:
        rows = {row["file"].split("/")[-1]: int(row["frames"]) for row in csv.DictReader(file) if row["file"].startswith("test/human64/")}
    summary = build_store(real_recordings / "test" / "human64", tmp_path / "store", split="test")
    assert summary.left_out == []
    assert {episode.name: episode.length for episode in FrameStore(tmp_path / "store").episodes} == rows
