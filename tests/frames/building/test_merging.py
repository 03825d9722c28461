"""Stores merged into one: everything that all have stays, nothing is mixed up, and a kill loses nothing."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from collecting.command import make
from foundation.errors import UserError
from frames import FrameBatches, FrameStore
from frames.building import merging
from frames.building.merging import merge_stores
from frames.labels import Labels
from frames.looking.inspecting import verify
from frames.storage.writer import StoreWriter, store_writer


def beside(length: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    """What is recorded beside `length` frames."""
    return {
        "reward": np.arange(length - 1, dtype=np.float32),
        "action.forward": np.arange(length - 1) % 2,
        "observation.segmentation": np.full((length, 16, 16), 3, np.uint8),
        **more,
    }


@pytest.fixture
def two(write_store: Callable[..., FrameStore], noise: Callable[..., np.ndarray], tmp_path: Path) -> list[FrameStore]:
    """Two stores that share an episode's name, and one array of actions of two."""
    stores = []
    for number, (folder, extra) in enumerate((("meadow", "action.place"), ("cave", "action.jump"))):
        episodes = {"seed 0/000000": noise(40, 10 * number), f"{folder} more": noise(20, 10 * number + 1)}
        arrays = {name: beside(len(frames), **{extra: np.ones(len(frames) - 1)}) for name, frames in episodes.items()}
        stores.append(write_store(episodes, arrays, tmp_path / folder, split="train" if number else "val"))
    return stores


def paths(stores: list[FrameStore]) -> list[Path]:
    return [store.path for store in stores]


def test_every_episode_stays_as_it_was_with_its_split(two: list[FrameStore], tmp_path: Path) -> None:
    merged = merge_stores(paths(two), tmp_path / "both")
    store = FrameStore(tmp_path / "both")
    assert (merged.built.frames, merged.built.episodes, len(store)) == (120, 4, 120)
    assert [episode.name for episode in store.episodes] == ["cave more", "cave/seed 0/000000", "meadow more", "meadow/seed 0/000000"]
    for folder, source in zip(("meadow", "cave"), two, strict=True):
        for name, merged_name in (("seed 0/000000", f"{folder}/seed 0/000000"), (f"{folder} more", f"{folder} more")):
            before = next(episode for episode in source.episodes if episode.name == name)
            after = next(episode for episode in store.episodes if episode.name == merged_name)
            here, there = np.arange(after.length) + after.first, np.arange(before.length) + before.first
            assert np.array_equal(store.frames(here), source.frames(there))
            assert (after.content, after.split, after.task, after.source) == (before.content, before.split, before.task, before.source)
            for array in ("reward", "action.forward", "observation.segmentation"):
                assert np.array_equal(store.array(after, array), source.array(before, array))
    assert verify(store) == []
    assert [entry["fingerprint"] for entry in store.meta["made_of"]] == [one.fingerprint for one in two]


@pytest.mark.parametrize("split", ["train", "test"])
def test_stores_without_val_merge_to_one_without_and_no_recording_is_drawn(
    write_store: Callable[..., FrameStore], noise: Callable[..., np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture, split: str
) -> None:
    for number, folder in enumerate(("meadow", "cave")):
        episodes = {f"{folder} {at}": noise(5, 100 * number + at) for at in range(30)}
        write_store(episodes, path=tmp_path / folder, split=split if number else "train")
    assert make(["merge", str(tmp_path / "meadow"), str(tmp_path / "cave"), "--store", str(tmp_path / "both")]) == 0
    store = FrameStore(tmp_path / "both")
    assert {episode.name: episode.split for episode in store.episodes} == {
        **{f"meadow {at}": "train" for at in range(30)},
        **{f"cave {at}": split for at in range(30)},
    }
    said = capsys.readouterr().out.replace("\n", " ")
    assert "none to validate on; an encoder needs both: every recording keeps its split; merge with a store that has some" in said


def test_actions_that_not_all_have_are_dropped_by_name_and_the_others_serve(two: list[FrameStore], tmp_path: Path) -> None:
    merged = merge_stores(paths(two), tmp_path / "both")
    assert merged.dropped.keys() == {"action.jump", "action.place"}
    assert merged.dropped["action.jump"] == f"{two[0].path} has episodes without it"
    store = FrameStore(tmp_path / "both")
    assert store.action_names == ("action.forward",)
    labels = Labels(store, {"segmentation": {}, "reward_to_come": {}, "next_actions": {}})
    assert (labels.at(store.indices("val"))["segmentation"] == 3).all()
    assert next(FrameBatches(store, "train", 4, 8)).actions is not None


def test_segmentation_that_one_lacks_is_dropped(
    two: list[FrameStore], write_store: Callable[..., FrameStore], noise: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    plain = write_store({"plain": noise(10, 99)}, {"plain": {"action.forward": np.zeros(9, int)}}, tmp_path / "plain")
    merged = merge_stores([*paths(two), plain.path], tmp_path / "all")
    assert merged.dropped["observation.segmentation"] == f"{plain.path} has episodes without it"
    store = FrameStore(tmp_path / "all")
    assert {"reward" in episode.arrays for episode in store.episodes} == {True, False}
    assert not any("observation.segmentation" in episode.arrays for episode in store.episodes)
    assert store.meta["dropped"] == merged.dropped


def test_what_two_stores_hold_goes_in_once_and_never_from_validation_to_training(
    write_store: Callable[..., FrameStore], noise: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    one = write_store({"a": noise(30, 1), "b": noise(30, 2)}, path=tmp_path / "one", split="train")
    other = write_store({"c": noise(30, 1)[5:25], "d": noise(30, 3)}, path=tmp_path / "other", split="val")
    merged = merge_stores([one.path, other.path], tmp_path / "both")
    store = FrameStore(tmp_path / "both")
    assert {episode.name: episode.split for episode in store.episodes} == {"a": "val", "b": "train", "d": "val"}
    assert [(entry.name, entry.reason) for entry in merged.built.left_out] == [("c", "contained in a")]
    assert merged.built.status == 0


def test_a_killed_merge_goes_on_to_the_same_store(two: list[FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merge_stores(paths(two), tmp_path / "whole")
    copied, read = [], merging._frames

    def stopped(store: FrameStore, episode: object) -> object:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(episode)
        return read(store, episode)

    monkeypatch.setattr(merging, "_frames", stopped)
    with pytest.raises(KeyboardInterrupt):
        merge_stores(paths(two), tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    monkeypatch.undo()
    resumed = merge_stores(paths(two), tmp_path / "killed")
    assert (resumed.built.kept, resumed.built.decoded, whole.built.decoded) == (2, 2, 4)
    assert FrameStore(tmp_path / "killed").meta == {**FrameStore(tmp_path / "whole").meta}
    assert merge_stores(paths(two), tmp_path / "killed").built.finished_before


def written_anew(store: FrameStore, split: str, without: str = "", renamed: str = "{}") -> None:
    """Put another store in its place: the same frames in one split, without an array, under other names."""
    held = [(one, store.frames(np.arange(one.length) + one.first)) for one in store.episodes]
    arrays = {one.name: {name: store.array(one, name) for name in one.arrays if name != without} for one, _ in held}
    shutil.rmtree(store.path)
    with store_writer(store.path, store.meta["plan"], store.frame_shape) as writer:
        for one, frames in held:
            kept = partial(dict, arrays[one.name])
            writer.add(renamed.format(one.name), frames, source=one.source, frames_per_second=one.frames_per_second, arrays=kept)
        writer.finish(lambda names: dict.fromkeys(names, split), {"resize": "squash", "left_out": []})
    assert FrameStore(store.path).fingerprint == store.fingerprint


@pytest.mark.parametrize(
    "change", [{"split": "test"}, {"split": "val", "without": "observation.segmentation"}, {"split": "val", "renamed": "z {}"}]
)
def test_a_source_that_was_built_again_in_the_same_frames_does_not_pass_for_merged(
    two: list[FrameStore], tmp_path: Path, change: dict[str, str]
) -> None:
    merge_stores(paths(two), tmp_path / "both")
    before = (tmp_path / "both" / "data.mdb").read_bytes()
    written_anew(two[0], **change)
    with pytest.raises(UserError, match=r"both: is finished, but made of other content of .*meadow \(.*\); merge into another store path"):
        merge_stores(paths(two), tmp_path / "both")
    assert (tmp_path / "both" / "data.mdb").read_bytes() == before
    merge_stores(paths(two), tmp_path / "anew")
    splits = {episode.split for episode in FrameStore(tmp_path / "anew").episodes if episode.source.startswith(("meadow", "seed 0"))}
    assert change["split"] in splits


def as_before_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write and compare plans as they were before there were identities."""
    plans = StoreWriter.__init__

    def without(self: StoreWriter, path: Path, working: Path, plan: dict[str, object], *rest: object) -> None:
        plans(self, path, working, {key: value for key, value in plan.items() if key != "identities"}, *rest)

    monkeypatch.setattr(StoreWriter, "__init__", without)


def test_a_store_that_was_merged_before_there_were_identities_is_still_finished(
    two: list[FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_before_identities(monkeypatch)
    merge_stores(paths(two), tmp_path / "both")
    assert "identities" not in FrameStore(tmp_path / "both").meta["plan"]
    monkeypatch.undo()
    assert merge_stores(paths(two), tmp_path / "both").built.finished_before


def test_a_merge_that_was_killed_before_there_were_identities_copies_what_has_changed_since(
    two: list[FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    as_before_identities(monkeypatch)
    monkeypatch.setattr(StoreWriter, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        merge_stores(paths(two), tmp_path / "both")
    monkeypatch.undo()
    written_anew(two[0], "val", renamed="z {}")
    resumed = merge_stores(paths(two), tmp_path / "both")
    assert (resumed.built.kept, resumed.built.decoded) == (1, 3)
    assert [episode.name for episode in FrameStore(tmp_path / "both").episodes] == [
        "cave more", "seed 0/000000", "z meadow more", "z seed 0/000000",
    ]  # fmt: skip


def test_damaged_frames_do_not_pass_into_a_merged_store(two: list[FrameStore], tmp_path: Path) -> None:
    data = two[0].path / "data.mdb"
    frame = two[0].frames([5])[0].tobytes()
    content = bytearray(data.read_bytes())
    place = content.index(frame)
    content[place] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="is damaged; copy the store again"):
        merge_stores(paths(two), tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_stores_that_do_not_fit_are_refused_in_a_line(
    two: list[FrameStore], write_store: Callable[..., FrameStore], noise: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    larger = write_store({"large": noise(4, 0, 32)}, path=tmp_path / "larger")
    cropped = tmp_path / "cropped"
    with store_writer(cropped, {"source": "a test"}, (16, 16, 3)) as writer:
        writer.add("x", noise(4, 5), source="x", frames_per_second=20.0)
        writer.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "crop", "left_out": []})
    meadow = two[0].path
    for sources, target, complaint in (
        ([meadow], "c", "two stores or more"),
        ([meadow, meadow], "c", "is given twice"),
        ([meadow, two[1].path], "meadow", "is one of the stores to merge"),
        ([meadow, larger.path], "c", r"frames of shape (16, 16, 3) and (32, 32, 3)"),
        ([meadow, cropped], "c", "frames resized by squash and crop"),
        ([meadow, tmp_path / "nowhere"], "c", "nowhere"),
    ):
        with pytest.raises(UserError, match=re.escape(complaint)):
            merge_stores(sources, tmp_path / target)


def test_the_command_merges_and_says_what_it_left_out(two: list[FrameStore], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(["merge", *map(str, paths(two)), "--store", str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "left out action.jump" in said
    assert "120 frames of 4 episodes" in said
    assert "inspect --store" in said
