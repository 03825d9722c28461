import csv
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore, build_store
from frames.building import build as building
from frames.curation.cleaning import Cleaning
from frames.looking.inspecting import verify
from frames.readers import Found, Recording
from frames.readers.recording import BadRecording, ExcludedRecording
from frames.storage.writer import StoreWriter

ROOT = Path(__file__).resolve().parents[3]


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


def test_a_source_of_nothing_but_excluded_recordings_makes_no_store(tmp_path, build_given, noise):
    with pytest.raises(UserError, match=r"none of 1 recordings could be read \(a: is known to be corrupted\)"):
        build_given(Given("a", noise(40), error=ExcludedRecording("is known to be corrupted")))
    assert os.listdir(tmp_path) == []


def test_two_recordings_of_one_name_are_refused(build_given, noise):
    one, other = Given("a", noise(40)), Given("a", noise(30, 1))
    # of one folder, as two layouts find them
    other.path = one.path
    with pytest.raises(UserError, match="two recordings are called a: a and a; rename one, or move it into another folder"):
        build_given(one, other)


def test_a_source_may_be_given_by_any_way_that_leads_to_it(tmp_path, source, monkeypatch):
    build(source, tmp_path / "store")
    (tmp_path / "link").symlink_to(source)
    assert build(tmp_path / "link", tmp_path / "store").finished_before
    monkeypatch.chdir(tmp_path)
    assert build("source", "store").finished_before
    assert build("link/../source", "store", append=True).finished_before


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


def test_another_cleaning_is_refused_by_the_option_that_differs(tmp_path, source):
    build(source, tmp_path / "store")
    with pytest.raises(UserError, match="made with thin_frozen = None, not 3; choose another store path"):
        build(source, tmp_path / "store", cleaning=Cleaning(thin_frozen=3))


@pytest.mark.parametrize("frame_size", [(0, 64), (64, -1), (100_000, 100_000)])
def test_a_frame_size_that_no_frame_has_is_refused(tmp_path, source, frame_size):
    with pytest.raises(UserError, match="at least 1, and no larger than 8K"):
        build_store(source, tmp_path / "store", frame_size=frame_size)
    assert os.listdir(tmp_path) == ["source"]


def test_the_root_of_all_folders_is_no_place_for_a_store(source):
    with pytest.raises(UserError, match=r"^/: cannot be a frame store; give a folder of its own"):
        build(source, Path("/"))


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


def test_a_recording_that_changed_between_two_runs_is_decoded_again(tmp_path, source, noise, write_video, monkeypatch):
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "store", workers=1)
    monkeypatch.undo()
    write_video(source / "film 5.avi", noise(77, seed=9))
    summary = build(source, tmp_path / "store")
    assert summary.kept == 2
    store = FrameStore(tmp_path / "store")
    assert np.array_equal(store.frames(np.arange(77) + store.episodes[5].first), noise(77, seed=9))
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


@pytest.mark.parametrize("size", [0, 3000, 4096, 8191])
def test_a_disk_that_was_full_at_the_first_byte_is_no_damage(tmp_path, source, size):
    begun = tmp_path / "store.building" / "store"
    begun.mkdir(parents=True)
    (begun / "data.mdb").write_bytes(b"\1" * size)
    assert build(source, tmp_path / "store").episodes


def test_real_recordings_have_the_frames_of_their_manifest(tmp_path, real_recordings):
    with open(real_recordings / "manifest.csv", newline="") as file:
        rows = {row["file"].split("/")[-1]: int(row["frames"]) for row in csv.DictReader(file) if row["file"].startswith("test/human64/")}
    summary = build_store(real_recordings / "test" / "human64", tmp_path / "store", split="test")
    assert summary.left_out == []
    assert {episode.name: episode.length for episode in FrameStore(tmp_path / "store").episodes} == rows


class Given(Recording):
    """A recording of given frames and arrays, without a file."""

    def __init__(
        self, name: str, frames: np.ndarray, arrays: dict | None = None, error: Exception | None = None, split: str | None = None
    ) -> None:
        super().__init__(name, Path(name), [], split=split)
        self._frames, self._arrays, self._error = frames, arrays or {}, error

    def frames_per_second(self) -> float:
        return 20.0

    def frames(self) -> Iterator[np.ndarray]:
        yield from self._frames
        if self._error is not None:
            raise self._error

    def arrays(self) -> dict[str, np.ndarray]:
        return self._arrays


@pytest.fixture
def build_given(tmp_path, monkeypatch):
    """Build from recordings that no layout has to find."""

    def build_from(*recordings: Recording, **options: object):
        monkeypatch.setattr(building, "find_all", lambda source, layout: Found(list(recordings), []))
        return build(tmp_path, tmp_path / "store", **options)

    return build_from


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"reward": np.zeros(40)}, "'reward' has 40 entries for 40 frames"),
        ({"action.jump": np.zeros(38)}, "'action.jump' has 38 entries for 40 frames"),
        ({"observation.life": np.zeros(41)}, "'observation.life' has 41 entries for 40 frames"),
        ({"reward": np.float64(3)}, "'reward' has no entries for 40 frames"),
        ({"reward": np.array([0.0] * 38 + [np.nan])}, "'reward' is nan at tick 38, not a number"),
        ({"reward": np.array([{}] * 39)}, "'reward' is of type object, neither numbers nor text"),
    ],
)
def test_arrays_that_do_not_fit_the_frames_make_a_recording_a_bad_one_whatever_its_layout(build_given, noise, arrays, reason):
    summary = build_given(Given("a", noise(40), arrays), Given("b", noise(30, 1)))
    assert [(entry.name, entry.reason, entry.fault) for entry in summary.left_out] == [("a", reason, True)]
    assert (summary.episodes, summary.status) == (1, 1)


@pytest.mark.parametrize("entries", [39, 40])
def test_observations_have_an_entry_for_each_frame_or_lack_the_last(tmp_path, build_given, noise, entries):
    assert build_given(Given("a", noise(40), {"observation.life": np.arange(entries), "reward": np.ones(39)})).left_out == []
    assert len(FrameStore(tmp_path / "store").array("a", "observation.life")) == entries


@pytest.mark.parametrize(
    ("error", "reason", "fault"),
    [
        (ValueError("bad\nindex"), "cannot be read (ValueError: bad index)", True),
        (MemoryError(), "cannot be read (MemoryError: )", True),
        (OSError(5, "Input/output error"), "cannot be read ([Errno 5] Input/output error)", True),
        (ExcludedRecording("is known to be corrupted"), "is known to be corrupted", False),
        # what is quoted of a damaged file
        (BadRecording("no array '\x1b[2J\r" + "x" * 5000), "no array ' [2J " + "x" * 382 + "...", True),
    ],
)
def test_whatever_a_reader_stumbles_over_spares_the_others(tmp_path, build_given, noise, error, reason, fault):
    summary = build_given(Given("a", noise(40), error=error), Given("b", noise(30, 1)), Given("empty", noise(0)))
    assert [(entry.name, entry.reason, entry.fault) for entry in summary.left_out] == [
        ("a", reason, fault), ("empty", "has no frame", True),
    ]  # fmt: skip
    assert verify(FrameStore(tmp_path / "store")) == []


def test_files_in_a_folder_that_may_be_listed_and_not_entered_are_left_out_and_spare_the_others(tmp_path, source, monkeypatch):
    (tmp_path / "source" / "kept").mkdir()
    for ending in ("mp4", "mkv", "h5", "npy", "png"):
        (tmp_path / "source" / "kept" / f"a.{ending}").write_bytes(b"1")
    real = os.stat

    def stat(path: object, **options: object) -> os.stat_result:
        if not isinstance(path, int) and "kept/" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    summary = build(source, tmp_path / "store")
    assert {entry.name for entry in summary.left_out} == {"kept (pictures)", "kept/a.mp4", "kept/a.mkv", "kept/a.h5", "kept/a.npy"}
    assert (summary.episodes, summary.status) == (6, 1)


def test_repeats_are_left_out_counted_and_named(tmp_path, build_given, noise):
    whole = noise(60)
    recordings = [Given("a", whole), Given("b", whole), Given("c", whole[10:50]), Given("d", noise(50, 1))]
    summary = build_given(*recordings)
    found = [(entry.name, entry.reason, entry.frames) for entry in summary.left_out]
    assert found == [("b", "the same as a", 60), ("c", "contained in a", 40)]
    assert (summary.decoded, summary.episodes, summary.frames, summary.status) == (4, 2, 110, 0)
    store = FrameStore(tmp_path / "store")
    assert [entry["name"] for entry in store.meta["left_out"]] == ["b", "c"]
    assert verify(store) == []
    assert build_given(*recordings).finished_before


def test_repeats_that_may_stay_share_a_split(tmp_path, build_given, noise):
    for seed in range(20):
        recordings = [Given(f"{number} of {seed}", noise(60, seed)) for number in range(2)]
        build_given(*recordings, Given("other", noise(40, 99)), cleaning=Cleaning(keep_duplicates=True), val=0.5)
        splits = {episode.name: episode.split for episode in FrameStore(tmp_path / "store").episodes}
        assert splits[f"0 of {seed}"] == splits[f"1 of {seed}"]
        shutil.rmtree(tmp_path / "store")


def test_a_source_says_the_splits_of_its_recordings(tmp_path, build_given, noise):
    recordings = [Given(f"{seed}", noise(30, seed), split=split) for seed, split in enumerate(("test", "val", "train", "test"))]
    build_given(*recordings)
    assert [episode.split for episode in FrameStore(tmp_path / "store").episodes] == ["test", "val", "train", "test"]
    shutil.rmtree(tmp_path / "store")
    build_given(*recordings, split="val")
    assert {episode.split for episode in FrameStore(tmp_path / "store").episodes} == {"val"}


def test_a_repeat_that_its_source_puts_into_another_split_is_told_and_leaks_nothing(tmp_path, build_given, noise, capsys):
    one, other = Given("a", noise(60), split="train"), Given("b", noise(60), split="test")
    build_given(one, other, Given("c", noise(40, 1)), cleaning=Cleaning(keep_duplicates=True))
    assert [episode.split for episode in FrameStore(tmp_path / "store").episodes[:2]] == ["test", "test"]
    assert "recordings that show the same are meant for different splits: a, b; test goes before val" in capsys.readouterr().err


def test_frames_left_out_on_request_are_counted_and_their_arrays_follow(tmp_path, build_given, noise):
    rewards = np.arange(39.0)
    summary = build_given(Given("a", noise(40), {"reward": rewards}), Given("b", noise(30, 1)), cleaning=Cleaning(drop_lead=3, drop_tail=2))
    store = FrameStore(tmp_path / "store")
    assert summary.trimmed == store.meta["trimmed"] == {"lead": 6, "tail": 4, "frozen": 0}
    assert np.array_equal(store.frames(range(35)), noise(40)[3:38])
    assert np.array_equal(store.array("a", "reward"), rewards[3:37])


def test_a_manifest_decides_for_each_recording(tmp_path, source, noise, capsys):
    (tmp_path / "manifest.csv").write_text(
        "file,drop_lead,frames,split,group\nsource/film 0.avi,5,40,test,x\nsource/film 1.avi,,99,,\nsource/film 2.avi,,,,x\n"
        "source/flim 3.avi,,,,x\nelsewhere/a.avi,,,,\n"
    )
    summary = build(source, tmp_path / "store", cleaning=Cleaning(manifest=tmp_path / "manifest.csv"))
    assert [(entry.name, entry.reason) for entry in summary.left_out] == [("film 1.avi", "41 frames decode, the manifest says 99")]
    store = FrameStore(tmp_path / "store")
    assert (store.episodes[0].length, store.episodes[0].trimmed["lead"]) == (35, 5)
    # a group shares the split that its member has
    assert [episode.split for episode in store.episodes[:2]] == ["test", "test"]
    told = capsys.readouterr().err
    assert "3 of 6 recordings are not in" in told
    assert f"1 of 5 lines of {tmp_path / 'manifest.csv'} name what is not there: flim 3.avi" in told


def test_a_request_to_end_says_that_nothing_is_lost(tmp_path, source, monkeypatch, capsys):
    add, handler = StoreWriter.add, signal.getsignal(signal.SIGTERM)

    def ended(self, *arguments, **options):
        add(self, *arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(StoreWriter, "add", ended)
    with pytest.raises(SystemExit) as ending:
        build(source, tmp_path / "store", workers=1)
    assert ending.value.code == 128 + signal.SIGTERM
    assert "run the same command again: it goes on where it stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == handler
    monkeypatch.undo()
    assert build(source, tmp_path / "store").kept >= 1


def test_the_bar_counts_frames_and_tells_the_pace(tmp_path, source, capsys):
    build(source, tmp_path / "store", workers=1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("decoding")]
    assert re.fullmatch(r"decoding: 255/255 frames, [\d,]+ frames/s  6/6 recordings", lines[-1])
    assert all(re.search(r"frames/s, [\d,]+ s left  \d/6 recordings$", line) for line in lines[:-1])
