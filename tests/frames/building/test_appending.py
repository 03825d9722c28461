import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames import BuildSummary, FrameStore, build_store
from frames.building.merging import merge_stores
from frames.curation.cleaning import Cleaning
from frames.looking.inspecting import verify
from frames.scenes.factors import FACTORS, has_factors
from frames.storage import copying, format, writer
from frames.storage.format import MASKS
from frames.storage.writer import StoreWriter, store_writer


@pytest.fixture
def write_films(tmp_path, noise, write_video) -> Callable[..., Path]:
    """Write a folder of films; a number says what is in one."""

    def write(folder: str, **films: int) -> Path:
        for name, number in films.items():
            write_video(tmp_path / folder / f"{name}.avi", noise(40 + number, seed=number))
        return tmp_path / folder

    return write


def build(source: Path, path: Path, **options: object) -> BuildSummary:
    return build_store(source, path, frame_size=(16, 16), **options)


def frames_of(store: FrameStore, name: str) -> np.ndarray:
    episode = next(episode for episode in store.episodes if episode.name == name)
    return store.frames(np.arange(episode.length) + episode.first)


def test_recordings_of_another_folder_join_a_store_that_is_being_read(tmp_path, noise, write_films):
    first, second = write_films("first", c=1, d=2, e=3), write_films("second", a=4, f=5)
    build(first, tmp_path / "store", split="test")
    reader = FrameStore(tmp_path / "store")
    before, seen = reader.episodes, reader.frames(range(len(reader)))
    summary = build(second, tmp_path / "store", split="train", append=True)
    assert (summary.decoded, summary.kept, summary.held, summary.episodes, summary.status) == (2, 0, 3, 5, 0)
    store = FrameStore(tmp_path / "store")
    assert [(episode.name, episode.split) for episode in store.episodes] == [
        ("a.avi", "train"), ("c.avi", "test"), ("d.avi", "test"), ("e.avi", "test"), ("f.avi", "train"),
    ]  # fmt: skip
    assert [episode.content for episode in store.episodes[1:4]] == [episode.content for episode in before]
    assert np.array_equal(frames_of(store, "f.avi"), noise(45, seed=5))
    assert verify(store) == []
    # the reader from before goes on with what it opened
    assert np.array_equal(reader.frames(range(len(reader))), seen)
    assert [store.meta["plan"]["source"], *(plan["source"] for plan in store.meta["appended"])] == [str(first), str(second)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second", "store"]


def test_what_is_new_in_a_folder_is_added_and_nothing_else_decoded(tmp_path, write_films):
    source = write_films("source", a=1, b=2)
    build(source, tmp_path / "store")
    write_films("source", c=3)
    with pytest.raises(UserError, match=r"c\.avi is not in it; add with --append"):
        build(source, tmp_path / "store")
    summary = build(source, tmp_path / "store", append=True)
    assert (summary.decoded, summary.kept, summary.held) == (1, 0, 2)
    write_films("whole", a=1, b=2, c=3)
    build(tmp_path / "whole", tmp_path / "at once")
    assert FrameStore(tmp_path / "store").fingerprint == FrameStore(tmp_path / "at once").fingerprint
    # the command that began the store finds it finished
    assert build(source, tmp_path / "store").finished_before


def test_a_finished_append_has_nothing_to_do(tmp_path, write_films):
    first, second = write_films("first", a=1), write_films("second", b=2, a=3)
    (second / "broken.mp4").write_bytes(b"\0" * 5000)
    build(first, tmp_path / "store")
    assert build(second, tmp_path / "store", append=True).status == 1
    written = (tmp_path / "store" / "data.mdb").stat()
    again = build(second, tmp_path / "store", append=True)
    assert again.finished_before
    assert again.status == again.decoded == 0
    assert [entry.name for entry in again.left_out] == ["a.avi", "broken.mp4"]
    assert (tmp_path / "store" / "data.mdb").stat().st_ino == written.st_ino


def test_a_name_that_is_taken_is_refused_and_what_has_it_stays(tmp_path, noise, write_films):
    first, second = write_films("first", a=1, b=2), write_films("second", a=3, b=2, c=4)
    build(first, tmp_path / "store")
    summary = build(second, tmp_path / "store", append=True)
    found = {entry.name: entry for entry in summary.left_out}
    assert "the store has another recording of this name" in found["a.avi"].reason
    assert found["a.avi"].fault
    # the same under another roof is no fault
    assert found["b.avi"].reason == "is in the store already"
    assert not found["b.avi"].fault
    assert (summary.decoded, summary.status) == (1, 1)
    assert np.array_equal(frames_of(FrameStore(tmp_path / "store"), "a.avi"), noise(41, seed=1))


def test_a_recording_that_changed_after_it_went_in_is_told_as_that(tmp_path, noise, write_films, write_video):
    source = write_films("source", a=1, b=2)
    build(source, tmp_path / "store")
    write_video(source / "a.avi", noise(12, seed=3))
    write_films("source", c=3)
    summary = build(source, tmp_path / "store", append=True)
    [left_out] = summary.left_out
    assert (left_out.name, left_out.reason.split(";")[0]) == ("a.avi", "has changed since it went into the store")
    assert (summary.decoded, summary.status) == (1, 1)
    assert np.array_equal(frames_of(FrameStore(tmp_path / "store"), "a.avi"), noise(41, seed=1))


@pytest.fixture
def write_pair(tmp_path, noise, write_video) -> Callable[..., Path]:
    """Write a VPT pair whose player holds keys in every tick."""

    def write(folder: str, name: str, number: int, *keys: str) -> Path:
        line = {"mouse": {"dx": 0, "dy": 0, "buttons": []}, "keyboard": {"keys": [f"key.keyboard.{key}" for key in keys]}}
        video = write_video(tmp_path / folder / f"{name}.mp4", noise(20 + number, seed=number))
        video.with_suffix(".jsonl").write_text((json.dumps(line) + "\n") * (20 + number))
        return video.parent

    return write


def test_a_recording_whose_actions_changed_after_it_went_in_is_told_as_changed(tmp_path, write_pair):
    write_pair("source", "a", 1)
    source = write_pair("source", "b", 2)
    build(source, tmp_path / "store")
    write_pair("source", "a", 1, "w")
    write_pair("source", "c", 3)
    summary = build(source, tmp_path / "store", append=True)
    [left_out] = summary.left_out
    assert (left_out.name, left_out.reason.split(";")[0]) == ("a.mp4", "has changed since it went into the store")
    assert (summary.decoded, summary.status) == (1, 1)
    # the same frames under another roof, with other actions
    elsewhere = write_pair("elsewhere", "a", 1, "w")
    write_pair("elsewhere", "b", 2)
    write_pair("elsewhere", "d", 4)
    found = {entry.name: entry.reason for entry in build(elsewhere, tmp_path / "store", append=True).left_out}
    assert "another recording of this name" in found["a.mp4"]
    assert found["b.mp4"] == "is in the store already"


def test_clips_whose_shared_metadata_grew_are_in_the_store_already(tmp_path, noise, write_video):
    source, columns = tmp_path / "train", {}
    for number, name in enumerate("abc"):
        write_video(source / f"{name}.mp4", noise(6, seed=number))
        columns[name] = {"jump": [number] * 6}
        (source / "metadata.json").write_text(json.dumps(columns))
        if name == "b":
            build(source, tmp_path / "store")
    summary = build(source, tmp_path / "store", append=True)
    assert [(entry.name, entry.reason) for entry in summary.left_out] == [(f"{name}.mp4", "is in the store already") for name in "ab"]
    assert (summary.decoded, summary.status) == (1, 0)


def test_a_recording_is_in_a_merged_store_already_without_the_actions_that_were_dropped(tmp_path, write_films, write_pair):
    build(write_pair("played", "a", 1), tmp_path / "one")
    build(write_films("watched", b=2), tmp_path / "other")
    assert merge_stores([tmp_path / "one", tmp_path / "other"], tmp_path / "both").dropped
    build(write_films("third", d=4), tmp_path / "third-store")
    # nothing is left to be dropped the second time
    assert not merge_stores([tmp_path / "both", tmp_path / "third-store"], tmp_path / "all").dropped
    write_films("elsewhere", c=3)
    for name in ("both", "all"):
        summary = build(write_pair("elsewhere", "a", 1), tmp_path / name, append=True)
        assert {entry.name: entry.reason for entry in summary.left_out} == {"a.mp4": "is in the store already"}


def test_new_recordings_of_a_source_that_names_a_val_are_not_drawn_for_it(tmp_path, write_films):
    write_films("source/val", a=1)
    write_films("source/train", b=2, c=3)
    build(tmp_path / "source", tmp_path / "store", val=0.5)
    write_films("source/train", **{name: number for number, name in enumerate("defghijk", 4)})
    build(tmp_path / "source", tmp_path / "store", val=0.5, append=True)
    splits = {episode.name: episode.split for episode in FrameStore(tmp_path / "store").episodes}
    assert splits == {"val/a.avi": "val", **{f"train/{name}.avi": "train" for name in "bcdefghijk"}}


def test_recordings_join_a_store_that_is_reached_by_a_link(tmp_path, write_films):
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk" / "store")
    build(write_films("first", a=1), tmp_path / "store")
    build(write_films("second", b=2), tmp_path / "store", append=True)
    assert [episode.name for episode in FrameStore(tmp_path / "disk" / "store").episodes] == ["a.avi", "b.avi"]
    assert sorted(os.listdir(tmp_path)) == ["disk", "first", "second", "store"]
    assert os.listdir(tmp_path / "disk") == ["store"]


def test_a_repeat_of_what_is_in_the_store_is_left_out_whatever_its_name(tmp_path, write_films):
    first, second = write_films("first", m=1), write_films("second", a=1, b=2, z=1)
    build(first, tmp_path / "store")
    summary = build(second, tmp_path / "store", append=True)
    assert [(entry.name, entry.reason, entry.frames, entry.fault) for entry in summary.left_out] == [
        ("a.avi", "the same as m.avi", 41, False),
        ("z.avi", "the same as m.avi", 41, False),
    ]
    assert summary.status == 0
    assert [episode.name for episode in FrameStore(tmp_path / "store").episodes] == ["b.avi", "m.avi"]


def test_duplicates_may_stay_and_then_share_a_split(tmp_path, write_films):
    first, second = write_films("first", m=1), write_films("second", a=1, b=1)
    build(first, tmp_path / "store", split="val")
    summary = build(second, tmp_path / "store", append=True, val=0.0, cleaning=Cleaning(keep_duplicates=True))
    assert summary.left_out == []
    assert {episode.name: episode.split for episode in FrameStore(tmp_path / "store").episodes} == dict.fromkeys(
        ("a.avi", "b.avi", "m.avi"), "val"
    )


def test_a_recording_that_holds_one_of_the_store_shares_its_split_however_little_there_is_to_see(tmp_path, noise, write_video):
    for number in range(6):
        dark = noise(40, seed=number) // 64
        write_video(tmp_path / "parts" / f"part {number}.avi", dark[10:25])
        write_video(tmp_path / "wholes" / f"whole {number}.avi", dark)
    build(tmp_path / "parts", tmp_path / "store", val=0.5)
    build(tmp_path / "wholes", tmp_path / "store", val=0.5, append=True)
    splits = {episode.name: episode.split for episode in FrameStore(tmp_path / "store").episodes}
    assert len(splits) == 12
    assert [splits[f"whole {number}.avi"] for number in range(6)] == [splits[f"part {number}.avi"] for number in range(6)]


def test_a_split_that_parts_new_recordings_from_what_they_repeat_is_told(tmp_path, noise, write_films, write_video, capsys):
    first = write_films("first", a=1, b=2)
    build(first, tmp_path / "store", split="train")
    write_video(tmp_path / "second" / "cut.avi", noise(41, seed=1)[:30])
    write_video(tmp_path / "second" / "longer.avi", np.concatenate([noise(42, seed=2), noise(5, seed=9)]))
    capsys.readouterr()
    build(tmp_path / "second", tmp_path / "store", split="test", append=True)
    told = capsys.readouterr().err
    # the cut is left out, so that nothing of it leaks
    assert "recordings that show the same are in different splits now: b.avi, longer.avi;" in told
    assert "--split test" in told


def test_a_recording_that_was_damaged_is_tried_again_when_it_has_changed(tmp_path, write_films):
    source = write_films("source", a=1, b=2)
    sound = (source / "b.avi").read_bytes()
    (source / "b.avi").write_bytes(sound[:3000])
    assert build(source, tmp_path / "store").status == 1
    assert build(source, tmp_path / "store", append=True).finished_before
    (source / "b.avi").write_bytes(sound)
    summary = build(source, tmp_path / "store", append=True)
    assert (summary.decoded, summary.left_out, summary.status) == (1, [], 0)
    assert FrameStore(tmp_path / "store").meta["left_out"] == []


def test_an_append_that_reads_nothing_leaves_the_store_as_it_was(tmp_path, write_films):
    build(write_films("first", a=1), tmp_path / "store")
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "broken.mp4").write_bytes(b"\0" * 5000)
    with pytest.raises(UserError, match="none of 1 recordings could be read"):
        build(tmp_path / "second", tmp_path / "store", append=True)
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before
    assert not (tmp_path / "store.building").exists()


def test_what_does_not_fit_the_store_is_refused_with_the_option_that_does(tmp_path, write_films):
    source = write_films("source", a=1)
    with pytest.raises(UserError, match="no such frame store"):
        build(source, tmp_path / "store", append=True)
    build(source, tmp_path / "store")
    with pytest.raises(UserError, match="16x16, not 64x64; append with --frame-size 16 16"):
        build_store(source, tmp_path / "store", append=True)
    with pytest.raises(UserError, match="append with --resize squash"):
        build(source, tmp_path / "store", append=True, resize="crop")


def test_recordings_that_would_cost_a_store_its_actions_are_refused_and_leave_it(tmp_path, noise, write_films, write_store):
    played = {f"player {number}": noise(40 + number, seed=number) for number in (1, 2)}
    store = write_store(played, {name: {"action.go": np.ones(len(frames) - 1)} for name, frames in played.items()})
    before = (store.path / "data.mdb").read_bytes()
    complaint = (
        r"store: its actions \(go\) are not those of 2 recordings \(c.avi, d.avi\), and would be lost; "
        r"build them into another store path: merge makes one store of both, and names what is lost"
    )
    with pytest.raises(UserError, match=complaint):
        build(write_films("more", b=2, c=3, d=4), store.path, append=True)
    assert (store.path / "data.mdb").read_bytes() == before
    assert not (tmp_path / "store.building").exists()
    # nothing is lost with pictures without order, or with a copy, which is left out
    others = write_films("others", b=2)
    (others / "stills").mkdir()
    cv2.imwrite(str(others / "stills" / "still.png"), noise(1, 9)[0])
    summary = build(others, store.path, append=True)
    assert [(entry.name, entry.reason) for entry in summary.left_out] == [("b.avi", "the same as player 2")]
    assert FrameStore(store.path).action_names == store.action_names == ("action.go",)
    assert [episode.name for episode in FrameStore(store.path).episodes] == ["player 1", "player 2", "stills"]


def test_recordings_that_would_cost_a_store_its_masks_are_refused_and_leave_it(tmp_path, noise, write_films):
    build(write_films("first", a=1), tmp_path / "store")
    with store_writer(tmp_path / "masked", FrameStore(tmp_path / "store").meta["plan"], (16, 16, 3)) as writing:
        arrays = {MASKS: np.zeros((5, 2, 16, 16, 1), np.uint8), FACTORS: np.zeros((5, 2, 3), np.float32)}
        writing.add("scenes", noise(5, 7), source="scenes", frames_per_second=1.0, arrays=lambda: arrays, ordered=False)
        writing.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "squash", "left_out": []})
    with pytest.raises(UserError, match=r"has masks of all its frames, and b.avi has none; build them into another store path"):
        build(write_films("second", b=2), tmp_path / "masked", append=True)
    assert has_factors(FrameStore(tmp_path / "masked"))


def test_an_append_to_a_store_that_was_built_again_does_not_bring_the_old_one_back(tmp_path, noise, write_films, write_store, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    write_store({"a": noise(20)}, path=tmp_path / "store", split="train")
    monkeypatch.setattr(StoreWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(write_films("second", b=2), tmp_path / "store", append=True)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "store")
    # the same frames in another split: their fingerprint is the same
    write_store({"a": noise(20)}, path=tmp_path / "new", split="test")
    os.rename(tmp_path / "new", tmp_path / "store")
    with pytest.raises(UserError, match="an unfinished append or build of another store; remove that folder"):
        build(tmp_path / "second", tmp_path / "store", append=True)


def test_an_append_that_was_interrupted_before_there_were_identities_goes_on(tmp_path, write_films, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    build(write_films("first", a=1), tmp_path / "store")
    encoded = StoreWriter._encoded_plan

    def of_before(self: StoreWriter) -> bytes:
        plan = json.loads(encoded(self))
        plan.pop("onto_identity", None)
        return format.encode_json(plan)

    monkeypatch.setattr(StoreWriter, "_encoded_plan", of_before)
    monkeypatch.setattr(StoreWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(write_films("second", b=2), tmp_path / "store", append=True)
    monkeypatch.undo()
    summary = build(tmp_path / "second", tmp_path / "store", append=True)
    assert (summary.decoded, summary.kept, summary.episodes) == (0, 1, 2)


def test_an_append_is_begun_only_with_room_for_the_copy(tmp_path, write_films, monkeypatch):
    build(write_films("first", a=1), tmp_path / "store")
    second = write_films("second", b=2)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    monkeypatch.setattr(copying, "_FICLONE", 0)
    with pytest.raises(UserError, match=r"a copy of the store needs .* and 0 MB are free; free some space"):
        build(second, tmp_path / "store", append=True)
    monkeypatch.undo()
    assert build(second, tmp_path / "store", append=True).decoded == 1


def test_a_second_command_leaves_the_copy_of_a_running_append_alone(tmp_path, write_films, monkeypatch):
    first, second = write_films("first", a=1), write_films("second", b=2)
    build(first, tmp_path / "store")
    copy_file = writer.copy_file

    def disturbed(source: Path, target: Path) -> None:
        assert build(first, tmp_path / "store").finished_before
        with pytest.raises(UserError, match="another process is building a store here"):
            build(second, tmp_path / "store", append=True)
        copy_file(source, target)

    monkeypatch.setattr(writer, "copy_file", disturbed)
    assert build(second, tmp_path / "store", append=True).decoded == 1


def test_what_a_kill_left_beside_a_finished_store_goes(tmp_path, write_films):
    source = write_films("source", a=1)
    build(source, tmp_path / "store")
    (tmp_path / "store.building" / "copying").mkdir(parents=True)
    assert build(source, tmp_path / "store").finished_before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "store"]


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_a_copy_is_the_same_byte_for_byte(tmp_path, noise, monkeypatch, kernel_copies):
    monkeypatch.setattr(copying, "_STEP", 1000)
    if not kernel_copies:
        monkeypatch.delattr("os.copy_file_range")
    (tmp_path / "old").write_bytes(noise(5).tobytes())
    copying.copy_file(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == noise(5).tobytes()


def test_an_append_of_something_else_waits_for_the_one_that_was_interrupted(tmp_path, write_films, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    build(write_films("first", a=1), tmp_path / "store")
    second, third = write_films("second", b=2), write_films("third", c=3)
    monkeypatch.setattr(StoreWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(second, tmp_path / "store", append=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"made with source = .*second.*finish that build first, remove that folder"):
        build(third, tmp_path / "store", append=True)
    assert build(second, tmp_path / "store", append=True).decoded == 0
    assert build(third, tmp_path / "store", append=True).decoded == 1
    assert [episode.name for episode in FrameStore(tmp_path / "store").episodes] == ["a.avi", "b.avi", "c.avi"]


def test_a_file_as_large_as_one_that_was_left_out_is_tried_all_the_same(tmp_path, write_films):
    first, second = write_films("first", c=1), write_films("second", e=3)
    whole = (second / "e.avi").read_bytes()
    (first / "e.avi").write_bytes(bytes(len(whole)))
    assert [entry.name for entry in build(first, tmp_path / "store").left_out] == ["e.avi"]
    assert build(second, tmp_path / "store", append=True).decoded == 1
    assert [episode.name for episode in FrameStore(tmp_path / "store").episodes] == ["c.avi", "e.avi"]
    # and the one that still does not read is not tried again
    assert build(second, tmp_path / "store", append=True).finished_before
