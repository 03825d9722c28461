import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from frames import FrameStore, build_store
from frames.storage.opening import working_folder

ROOT = Path(__file__).resolve().parents[3]
KILLS = 20
RECORDINGS = 30

# forks a process for each build, which is quicker than to load everything for each
NURSERY = """
import json, os, signal, sys
import cv2
import frames
from frames.storage import copying, writer
from frames.building import intake

def log(name, line):
    handle = os.open(name, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(handle, os.fsencode(line + "\\n"))

def die_at(module, name, when):
    inner = getattr(module, name)
    def deadly(*arguments, **options):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, deadly)

def build(source, store, append, logged, point):
    os.dup2(os.open(logged + ".err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    stored = intake._Passage._stored
    def counted(passage, *arguments):
        log(logged, passage.recording.name)
        return stored(passage, *arguments)
    intake._Passage._stored = counted
    if point:
        owner, name, when = point
        die_at({"os": os, "writer": writer, "StoreWriter": writer.StoreWriter, "shutil": writer.shutil}[owner], name, when)
    frames.build_store(source, store, frame_size=(16, 16), append=append, workers=2)

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        build(*json.loads(line))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Builds:
    """Starts builds that can be killed, and knows what each of them decoded."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch / "decoded.txt"
        command = [sys.executable, "-c", NURSERY]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, source: Path, store: Path, append: bool = False, point: list | None = None, after: float | None = None) -> int:
        """Build, killed at a point of the program or after some seconds; return the signal that ended it, 0 for none."""

        line = json.dumps([str(source), str(store), append, str(self._log), point])
        self._log.unlink(missing_ok=True)
        self.process.stdin.write(line.encode() + b"\n")
        child = int(self.process.stdout.readline())
        if after is not None and not select.select([self.process.stdout], [], [], after)[0]:
            os.kill(child, signal.SIGKILL)
        return os.WTERMSIG(int(self.process.stdout.readline()))

    def decoded(self) -> list[str]:
        """The recordings that the last build began to decode."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def said(self) -> str:
        return self._log.with_name(self._log.name + ".err").read_text()


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> Iterator[Builds]:
    nursery = Builds(tmp_path_factory.mktemp("builds"))
    yield nursery
    nursery.process.stdin.close()
    nursery.process.wait()


@pytest.fixture
def write_recordings(write_minerl, noise) -> Callable[..., Path]:
    """Write MineRL folders, the numbers in their names deciding what is in them."""

    def write(folder: Path, numbers: range, ticks: int = 40) -> Path:
        for number in numbers:
            write_minerl(folder / f"recording {number:02d}", noise(ticks + 1, seed=number), ticks)
        return folder

    return write


def committed(path: Path) -> set[str]:
    """The episodes that an interrupted build has whole."""
    data = working_folder(path) / "store"
    if not (data / "data.mdb").exists():
        return set()

    with lmdb.open(str(data), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {json.loads(value)["name"] for key, value in transaction.cursor() if key.startswith(b"e")}


def assert_same_content(path: Path, whole: FrameStore) -> None:
    store = FrameStore(path)
    assert store.fingerprint == whole.fingerprint
    assert store.episodes == whole.episodes
    assert np.array_equal(store.frames(range(len(store))), whole.frames(range(len(whole))))
    for episode in whole.episodes:
        for name in episode.arrays:
            assert np.array_equal(store.array(episode.name, name), whole.array(episode.name, name))
    assert not working_folder(path).exists()


def test_twenty_kills_at_random_moments_cost_only_what_was_not_committed(tmp_path, write_recordings, builds):
    source = write_recordings(tmp_path / "source", range(RECORDINGS), ticks=120)
    began = time.monotonic()
    assert builds.run(source, tmp_path / "whole") == 0
    usual = time.monotonic() - began
    whole, path = FrameStore(tmp_path / "whole"), tmp_path / "store"
    chance, kills, resumed, builds_finished = random.Random(0), 0, 0, 0
    while kills < KILLS or not path.exists():
        # a kill may come right after the last step
        finished, before = path.exists(), committed(path)
        ended_by = builds.run(source, path, after=chance.uniform(0, usual / 2) if kills < KILLS else None)
        assert not before & set(builds.decoded())
        if before and builds.decoded():
            assert f"{len(before)} of {RECORDINGS} recordings are there from an earlier run" in builds.said()
            resumed += 1
        kills += ended_by == signal.SIGKILL
        if ended_by == 0:
            assert len(builds.decoded()) == (0 if finished else RECORDINGS - len(before))
            assert_same_content(path, whole)
            if kills < KILLS:
                # several may finish between two kills
                builds_finished += 1
                path.rename(tmp_path / f"finished {builds_finished}")
    assert resumed >= 5


POINTS = {
    "before the meta record": ["StoreWriter", "finish", "before"],
    "between the meta record and the rename": ["StoreWriter", "publish", "before"],
    "while the file is cut to its size": ["os", "truncate", "before"],
    "right before the last step": ["os", "rename", "before"],
    "right after the last step": ["os", "rename", "after"],
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_during_the_finish_costs_no_decoding(tmp_path, write_recordings, builds, point):
    source = write_recordings(tmp_path / "source", range(4))
    build_store(source, tmp_path / "whole", frame_size=(16, 16))
    assert builds.run(source, tmp_path / "store", point=POINTS[point]) == signal.SIGKILL
    assert len(builds.decoded()) == 4
    summary = build_store(source, tmp_path / "store", frame_size=(16, 16))
    assert (summary.decoded, summary.kept, summary.status) == (0, 4, 0)
    assert_same_content(tmp_path / "store", FrameStore(tmp_path / "whole"))


APPEND_POINTS = {
    "before the copy": ["writer", "copy_file", "before"],
    "after the copy": ["writer", "copy_file", "after"],
    "before the copy counts": ["os", "rename", "before"],
    "before anything is decoded": ["os", "rename", "after"],
    "while the first is decoded": ["StoreWriter", "_write_chunks", "after"],
    "before the meta record": ["StoreWriter", "finish", "before"],
    "between the meta record and the replacement": ["StoreWriter", "publish", "before"],
    "right before the last step": ["os", "replace", "before"],
    "right after the last step": ["os", "replace", "after"],
}


@pytest.mark.parametrize("point", APPEND_POINTS)
def test_a_killed_append_leaves_the_store_as_it_was_and_goes_on(tmp_path, write_recordings, builds, point):
    first = write_recordings(tmp_path / "first", range(3))
    second = write_recordings(tmp_path / "second", range(3, 6))
    for path in (tmp_path / "whole", tmp_path / "store"):
        build_store(first, path, frame_size=(16, 16))
    before = FrameStore(tmp_path / "store")
    build_store(second, tmp_path / "whole", frame_size=(16, 16), append=True)
    whole = FrameStore(tmp_path / "whole")
    assert builds.run(second, tmp_path / "store", append=True, point=APPEND_POINTS[point]) == signal.SIGKILL
    done = point == "right after the last step"
    assert FrameStore(tmp_path / "store").fingerprint == (whole if done else before).fingerprint
    held = committed(tmp_path / "store") - {episode.name for episode in before.episodes}
    summary = build_store(second, tmp_path / "store", frame_size=(16, 16), append=True)
    assert summary.decoded == (0 if done else 3 - len(held))
    assert_same_content(tmp_path / "store", whole)
