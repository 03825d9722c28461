"""Damaged files of every layout, and damaged stores: left out or refused with a message, or read as they are, and never fatal."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import lmdb
import numpy as np
import pytest

from frames import FrameStore, build_store
from frames.readers.registry import BUILT_IN
from frames.storage.writer import StoreWriter

FRAMES = 8
TRIES = 21
SECONDS_A_TRY = 30
SECONDS = 500


@pytest.fixture
def samples(tmp_path, noise, write_video, write_minerl, monkeypatch) -> Path:
    """A folder with a sample of every layout and of stores: in `source` of each a clean recording beside one to be damaged."""
    folder = tmp_path / "samples"
    write = {
        "minerl": lambda path, frames: write_minerl(path, frames, FRAMES - 3),
        "vpt": lambda path, frames: write_pair(write_video(path.with_suffix(".mp4"), frames)),
        "cwvae": lambda path, frames: write_clips(write_video(path / "clip.mp4", frames).with_name("metadata.json")),
        "malmo": lambda path, frames: write_texts(write_video(path / "video.mp4", frames).parent),
        "lmdb": lambda path, frames: write_lmdb(path.with_suffix(".lmdb"), frames.repeat(2, axis=1).repeat(2, axis=2)),
        "npy pictures": lambda path, frames: np.save(path.with_suffix(".npy"), frames),
        "npy clips": lambda path, frames: np.save(path.with_suffix(".npy"), frames.reshape(2, FRAMES // 2, *frames.shape[1:])),
        "hdf5": lambda path, frames: write_hdf5(path.with_suffix(".h5"), frames),
        "videos mp4": lambda path, frames: write_video(path.with_suffix(".mp4"), frames, codec="mp4v"),
        "videos avi": lambda path, frames: write_video(path.with_suffix(".avi"), frames, codec="MJPG"),
        "videos gif": lambda path, frames: write_video(path.with_suffix(".gif"), frames),
        "videos mkv": lambda path, frames: write_video(path.with_suffix(".mkv"), frames),
        "pictures png": lambda path, frames: write_pictures(path, frames, ".png"),
        "pictures jpg": lambda path, frames: write_pictures(path, frames, ".jpg"),
    }
    for number, (subject, write_recording) in enumerate(write.items()):
        (folder / subject / "source").mkdir(parents=True)
        for name in ("clean", "damaged"):
            small = noise(FRAMES, seed=2 * number + (name == "clean"), size=4)
            write_recording(folder / subject / "source" / name, small.repeat(4, axis=1).repeat(4, axis=2))
    for subject in ("videos mp4", "minerl"):
        shutil.copytree(folder / subject, folder / f"{subject}, hashed")
    write_stores(folder, monkeypatch)
    return folder


def write_pair(video: Path) -> None:
    line = {"mouse": {"dx": 3, "dy": -1.5, "buttons": [0], "newButtons": []}, "keyboard": {"keys": ["key.keyboard.w"]}, "hotbar": 2}
    lines = [json.dumps({**line, "isGuiOpen": False, "xpos": 841.25 + number}) for number in range(FRAMES)]
    video.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def write_clips(metadata: Path) -> None:
    columns = {"jump": [0, 1] * (FRAMES // 2), "camera_x": [0.5 * number for number in range(FRAMES)], "angle": [-170.5] * FRAMES}
    metadata.write_text(json.dumps({"clip": columns}))


def write_texts(folder: Path) -> None:
    stamps = [f"20160726T101000.{50 * number:03}000" for number in range(FRAMES)]
    frames = [f"{stamp} frame_{number:06} xyzyp: 1.5 64 -2.25 90 -10" for number, stamp in enumerate(stamps)]
    (folder / "frame_info.txt").write_text("\n".join(["width=16", "height=16", *frames, ""]))
    (folder / "rewards.txt").write_text("".join(f"{stamp} 0:{number}.5,1:-2\n" for number, stamp in enumerate(stamps)))
    (folder / "commands.txt").write_text("".join(f"{stamp} move 0.{number}\n" for number, stamp in enumerate(stamps)))
    (folder / "observations.txt").write_text("".join(f'{stamp} {{"Life": {number}}}\n' for number, stamp in enumerate(stamps)))


def write_lmdb(path: Path, frames: np.ndarray) -> None:
    with lmdb.open(str(path), map_size=1 << 24, subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        for number, frame in enumerate(frames):
            transaction.put(b"%d" % number, frame.tobytes())


def write_hdf5(path: Path, frames: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("train")
        group.create_dataset("imgs", data=frames, compression="gzip", chunks=(2, *frames.shape[1:]))
        group.create_dataset("masks", data=frames[:, None, ..., :1], compression="gzip")
        group.create_dataset("factors", data=np.arange(FRAMES * 6.0).reshape(FRAMES, 2, 3))


def write_pictures(folder: Path, frames: np.ndarray, suffix: str) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames[:4]):
        cv2.imwrite(str(folder / f"{number}{suffix}"), np.ascontiguousarray(frame[..., ::-1]))


def write_stores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a finished store, and what a build leaves that is killed before its end."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for subject in ("store", "append", "unfinished"):
        shutil.copytree(folder / "minerl" / "source", folder / subject / "source")
        build_store(folder / subject / "source", folder / subject / "store", frame_size=(16, 16))
    shutil.copytree(folder / "vpt" / "source", folder / "append" / "more")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(StoreWriter, "finish", killed)
        build_store(folder / "unfinished" / "source", folder / "unfinished" / "again", frame_size=(16, 16))
    (folder / "unfinished" / "again.building").rename(folder / "unfinished" / "store.building")


def run_tries(samples: Path, scratch: Path, first: int, end: int, *subjects: str) -> Iterator[dict[str, Any]]:
    """Damage samples in a process of its own; yield what became of every try. A try that kills it, or hangs, is yielded as wrong."""
    scratch.mkdir()
    report, script = scratch / "report.jsonl", Path(__file__).parent / "corruption" / "build_damaged.py"
    command = [sys.executable, script, samples, scratch, report, SECONDS_A_TRY, f"{first}:{end}", *subjects]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(list(map(str, command)), env=environment, capture_output=True, timeout=SECONDS, check=False)
    last: dict[str, Any] = {}
    for line in report.read_text().splitlines() if report.exists() else []:
        last = json.loads(line)
        if "begins" not in last:
            yield last
    if run.returncode:
        yield {**last, "wrong": f"the process ended with {run.returncode}: {run.stderr[-500:].decode(errors='replace')}"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_damaged_files_are_left_out_or_read_as_they_are_and_damaged_stores_are_refused_or_named(samples, tmp_path):
    subjects = sorted(path.name for path in samples.iterdir())
    assert set(BUILT_IN) <= {subject.replace(",", " ").split()[0] for subject in subjects}
    found = list(run_tries(samples, tmp_path / "scratch", 0, TRIES, *subjects))
    assert [entry for entry in found if "wrong" in entry] == []
    outcomes = {subject: Counter(entry["outcome"] for entry in found if entry["subject"] == subject) for subject in subjects}
    assert all(sum(counts.values()) == TRIES for counts in outcomes.values())
    # a test of nothing but refusals would prove little, and so would one without any
    assert all(counts["left out"] + counts["left out in part"] + counts["refused"] + counts["named"] for counts in outcomes.values())
    assert sum((counts for counts in outcomes.values()), Counter())["taken"] > TRIES
    assert all(outcomes[subject] == {"left out": TRIES} for subject in subjects if subject.endswith("hashed"))


def test_each_bad_recording_is_named_with_its_fault_and_the_good_ones_go_in(tmp_path, noise, write_video, write_minerl):
    source, (first, second) = tmp_path / "a source é", noise(16).reshape(2, 8, 16, 16, 3)
    write_video(source / "film: ünï 100 %.mp4", first)
    write_minerl(source / "good one", second, 7)
    cut = write_video(source / "cut.mp4", noise(8, 3))
    os.truncate(cut, cut.stat().st_size // 2)
    (source / "empty.mp4").touch()
    (source / "loop.mp4").symlink_to("loop.mp4")
    (source / "above").symlink_to(source)
    changes = {
        "no rewards": {"reward": None},
        "too few": {"action$camera": np.zeros((3, 2))},
        "not a number": {"reward": np.array([0, 1, np.nan, 0, 0, 0, 0])},
    }
    for seed, (name, changed) in enumerate(changes.items()):
        write_minerl(source / name, noise(8, 4 + seed), 7, **changed)
    write_bomb(write_minerl(source / "bomb", noise(8, 8), 7) / "rendered.npz")
    with lmdb.open(str(source / "contacts.lmdb"), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"name", b"value")
    summary = build_store(source, tmp_path / "store", frame_size=(16, 16), workers=1)
    reasons = {
        "bomb": "rendered.npz announces 285,600,056 bytes of arrays, more than 268,435,456",
        "contacts.lmdb": "an LMDB of another program: its keys, such as name, are no numbers; pictures are expected under 0, 1, 2, ...",
        "cut.mp4": f"truncated: {cut.stat().st_size:,} of ",
        "empty.mp4": "an empty file",
        "loop.mp4": "is missing",
        "no rewards": "rendered.npz has no 'reward'",
        "not a number": "rendered.npz: 'reward' is nan at tick 2",
        "too few": "rendered.npz: 'action.camera' has 3 entries for 7 rewards",
    }
    assert [entry.name for entry in summary.left_out] == list(reasons)
    assert [entry.reason for entry in summary.left_out if not entry.reason.startswith(reasons[entry.name])] == []
    assert summary.status == 1
    store = FrameStore(summary.path)
    assert {episode.name: episode.length for episode in store.episodes} == {"film: ünï 100 %.mp4": 8, "good one": 8}
    assert np.array_equal(store.frames(np.arange(8)), first)


def write_bomb(path: Path) -> None:
    """Write an .npz of some hundred kilobytes whose 7 actions unpack to 285.6 MB."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (7, 5100000), }"
    np.savez(path, reward=np.zeros(7))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("action$camera.npy", "w") as file:
        file.write(b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117) + b"\n")
        for _ in range(272):
            file.write(bytes(1_050_000))
