import json
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest
import torch

from foundation.errors import UserError
from frames import FrameStore
from frames.storage.format import chunk_key, chunk_prefix, seal


@pytest.fixture
def episodes(noise):
    return {"a": noise(70, seed=1), "b": noise(1, seed=2), "c": noise(33, seed=3), "d": noise(64, seed=4)}


def test_frames_come_in_the_order_asked_for(episodes, write_store):
    store = write_store(episodes)
    everything = np.concatenate(list(episodes.values()))
    assert len(store) == len(everything) == 168
    indices = np.random.default_rng(0).integers(0, 168, 1000)
    assert np.array_equal(store.frames(indices), everything[indices])
    assert np.array_equal(store.frames(np.arange(168)), everything)
    assert store.frames([]).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("index", [-1, 168])
def test_a_frame_that_is_not_there_is_an_error(episodes, write_store, index):
    with pytest.raises(IndexError, match="of a store with 168 frames"):
        write_store(episodes).frames([0, index])


@pytest.fixture(params=["file", "memory"])
def either(request, episodes, write_store):
    """A store that reads from its file, and one that is held in memory."""
    return FrameStore(write_store(episodes, split="train").path, in_memory=request.param == "memory")


def test_a_store_in_memory_and_one_on_disk_give_the_same(episodes, either):
    everything = np.concatenate(list(episodes.values()))
    indices = np.random.default_rng(0).integers(0, 168, 300)
    assert np.array_equal(either.frames(indices), everything[indices])
    starts = either.starts("train", 7, 3)
    assert np.array_equal(either.windows(starts, 7, 3), everything[starts[:, None] + 3 * np.arange(7)])
    assert np.array_equal(pickle.loads(pickle.dumps(either)).frames(indices), everything[indices])
    assert either.frames([]).shape == (0, 16, 16, 3)


def test_a_store_in_memory_needs_its_file_no_more(episodes, write_store):
    store = FrameStore(write_store(episodes).path, in_memory=True)
    os.truncate(store.path / "data.mdb", 8192)
    assert np.array_equal(store.frames([100]), np.concatenate(list(episodes.values()))[100:101])


def test_a_store_larger_than_the_free_memory_is_not_held(episodes, write_store, monkeypatch):
    path = write_store(episodes).path
    monkeypatch.setattr("frames.store.free_memory", lambda: 168 * 16 * 16 * 3 - 1)
    with pytest.raises(UserError, match="open it without in_memory"):
        FrameStore(path, in_memory=True)


def test_frames_and_windows_go_into_the_callers_array(either):
    indices, starts = [5, 167, 5, 6], either.starts("train", 4)[:9]
    frames, clips = np.zeros((4, 16, 16, 3), np.uint8), torch.zeros((9, 4, 16, 16, 3), dtype=torch.uint8)
    assert either.frames(indices, out=frames) is frames
    assert np.array_equal(frames, either.frames(indices))
    either.windows(starts, 4, out=clips.numpy())
    assert np.array_equal(clips, either.windows(starts, 4))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((3, 16, 16, 3), np.uint8),
        np.zeros((4, 16, 16, 3), np.int8),
        np.zeros((8, 16, 16, 3), np.uint8)[::2],
        np.broadcast_to(np.uint8(0), (4, 16, 16, 3)),
    ],
)
def test_an_array_that_cannot_take_the_frames_is_refused(either, out):
    with pytest.raises(ValueError, match=r"must be writable, C-contiguous uint8 \(4, 16, 16, 3\)"):
        either.frames([0, 1, 2, 3], out=out)


@pytest.mark.parametrize(("start", "length", "stride"), [(69, 2, 1), (60, 4, 4), (70, 2, 1), (165, 4, 1)])
def test_a_clip_that_leaves_its_episode_is_an_error_that_names_it(either, start, length, stride):
    episode = either.episode_at(start)
    last = episode.first + episode.length - 1
    with pytest.raises(IndexError, match=f"from frame {start} leaves episode '{episode.name}', which ends at frame {last}"):
        either.windows([0, start], length, stride)
    with pytest.raises(IndexError, match="frame 168 of a store"):
        either.windows([168], 1)
    for nothing in ((0, 1), (2, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            either.windows([0], *nothing)


def test_threads_read_the_same_store_at_once(episodes, either):
    everything = np.concatenate(list(episodes.values()))
    wanted = [np.random.default_rng(seed).integers(0, 168, 64) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(either.frames, wanted))
    assert all(np.array_equal(frames, everything[indices]) for frames, indices in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 1), (40, 1), (4, 3), (64, 1)])
def test_windows_never_cross_an_episode_and_none_is_missing(episodes, write_store, length, stride):
    store = write_store(episodes, split="train")
    starts = store.starts("train", length, stride)
    possible = [
        clip[at : at + (length - 1) * stride + 1 : stride]
        for clip in episodes.values()
        for at in range(len(clip) - (length - 1) * stride)
    ]
    assert np.array_equal(store.windows(starts, length, stride), np.array(possible))


def test_pictures_of_an_unordered_episode_make_no_clips(noise, write_store):
    store = write_store({"stills": noise(20)}, unordered=["stills"], split="train")
    assert len(store.indices("train")) == 20
    assert len(store.starts("train", 2)) == 0


def test_splits_hold_whole_episodes_and_every_frame_once(episodes, write_store):
    store = write_store(episodes, val=0.3)
    indices = np.concatenate([store.indices(split) for split in ("train", "val", "test")])
    assert sorted(indices.tolist()) == list(range(168)) == store.indices("all").tolist()
    for episode in store.episodes:
        held = np.isin(np.arange(episode.first, episode.first + episode.length), store.indices(episode.split))
        assert held.all()
    with pytest.raises(UserError, match="did you mean 'train'"):
        store.indices("trian")


def test_arrays_come_back_in_the_type_they_were_recorded(noise, write_store):
    arrays = {"reward": np.arange(9, dtype=np.float32), "action.place": np.array(["none", "dirt", "none"] * 3)}
    store = write_store({"a": noise(10)}, {"a": arrays})
    for name, array in arrays.items():
        for episode in (0, "a", store.episodes[0]):
            assert np.array_equal(store.array(episode, name), array)
            assert store.array(episode, name).dtype == array.dtype
    with pytest.raises(KeyError, match="known: a"):
        store.array("A", "reward")


def test_action_windows_give_the_action_that_led_to_each_frame(noise, write_store):
    def actions(ticks, place):
        camera = np.arange(2 * ticks, dtype=np.float64).reshape(ticks, 2)
        return {"action.camera": camera, "action.jump": np.arange(ticks) + 100, "action.place": np.array([place] * ticks)}

    store = write_store({"a": noise(10), "b": noise(6)}, {"a": actions(9, "none"), "b": actions(5, "dirt")}, split="train")
    assert store.action_names == ("action.camera", "action.jump", "action.place")
    assert store.action_size == 4
    windows = store.action_windows([0, 4, 10], 3)
    assert windows.dtype == np.float32
    assert windows[0].tolist() == [[0, 0, 0, 0], [0, 1, 100, 1], [2, 3, 101, 1]]
    assert windows[1].tolist() == [[6, 7, 103, 1], [8, 9, 104, 1], [10, 11, 105, 1]]
    assert windows[2].tolist() == [[0, 0, 0, 0], [0, 1, 100, 0], [2, 3, 101, 0]]
    # of four ticks: the turns together, the last of the others
    assert store.action_windows([0], 3, stride=4)[0].tolist() == [[0, 0, 0, 0], [12, 16, 103, 1], [44, 48, 107, 1]]


def test_there_are_no_action_windows_unless_every_episode_has_actions(noise, write_store):
    store = write_store({"a": noise(5), "b": noise(5)}, {"a": {"action.jump": np.zeros(4)}})
    assert store.action_names is None
    assert store.action_windows([0], 2) is None


def test_the_fingerprint_is_of_the_frames_alone(episodes, write_store, tmp_path, noise):
    renamed = {name + " again": frames for name, frames in reversed(episodes.items())}
    stores = [write_store(content, path=tmp_path / str(n)) for n, content in enumerate([episodes, renamed, {"a": noise(70, seed=9)}])]
    assert stores[0].fingerprint == stores[1].fingerprint != stores[2].fingerprint


def test_a_forked_and_a_spawned_process_read_the_same_store(episodes, write_store):
    store = write_store(episodes)
    expected = store.frames([5, 100]).sum()
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(read_sum, (store, [5, 100])) == expected
    assert store.frames([5, 100]).sum() == expected


def read_sum(store, indices):
    return store.frames(indices).sum()


def test_an_open_store_survives_a_fork_in_which_it_is_used(episodes, write_store):
    store = write_store(episodes)
    child = os.fork()
    if child == 0:
        good = np.array_equal(store.frames([3]), episodes["a"][3:4]) and len(FrameStore(store.path)) == 168
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(store.frames([3]), episodes["a"][3:4])


def test_a_store_can_be_open_twice_in_a_process(episodes, write_store):
    store = write_store(episodes)
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(store.frames([1]), again.frames([1]))


def test_a_reader_keeps_its_store_when_another_takes_its_place(episodes, write_store, tmp_path, noise):
    store = write_store(episodes)
    newer = write_store({"n": noise(7)}, path=tmp_path / "newer")
    os.rename(store.path, tmp_path / "older")
    os.rename(newer.path, store.path)
    assert len(FrameStore(store.path)) == 7
    assert np.array_equal(store.frames([3]), episodes["a"][3:4])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_store_is_refused_before_it_is_mapped(episodes, write_store, tmp_path, share):
    data = write_store(episodes).path / "data.mdb"
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "data.mdb").write_bytes(data.read_bytes()[: int(share * data.stat().st_size)])
    with pytest.raises(UserError, match=r"truncated|not a frame store"):
        FrameStore(tmp_path / "cut")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "older format 1, not 2; build it again"),
        ({"version": 3}, "update this program"),
        ({"codec": "jpeg"}, "update this program"),
        ({"format": "x"}, "another program"),
    ],
)
def test_a_store_of_another_format_is_refused(episodes, write_store, tmp_path, change, message):
    shutil.copytree(write_store(episodes).path, tmp_path / "other")
    with lmdb.open(str(tmp_path / "other"), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        meta = json.loads(transaction.get(b"meta"))
        transaction.put(b"meta", json.dumps({**meta, **change}).encode())
    with pytest.raises(UserError, match=message):
        FrameStore(tmp_path / "other")


def test_a_damaged_episode_table_is_refused(episodes, write_store, tmp_path):
    shutil.copytree(write_store(episodes).path, tmp_path / "other")
    with lmdb.open(str(tmp_path / "other"), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        meta = json.loads(transaction.get(b"meta"))
        del meta["episodes"][0]["length"]
        transaction.put(b"meta", json.dumps(meta).encode())
    with pytest.raises(UserError, match="damaged"):
        FrameStore(tmp_path / "other")


@pytest.mark.parametrize("content", [None, b"short"])
def test_frames_that_are_missing_name_their_episode_and_the_rest_is_read(episodes, write_store, tmp_path, content):
    shutil.copytree(write_store(episodes).path, tmp_path / "other")
    with lmdb.open(str(tmp_path / "other"), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        key = chunk_key(chunk_prefix("d"), 1)
        transaction.put(key, content) if content else transaction.delete(key)
    store = FrameStore(tmp_path / "other")
    assert np.array_equal(store.frames(np.arange(136)), np.concatenate(list(episodes.values()))[:136])
    with pytest.raises(UserError, match="frames of d are missing"):
        store.frames([3, 136])


def test_an_lmdb_of_another_program_is_refused(tmp_path):
    with lmdb.open(str(tmp_path / "other")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    with pytest.raises(UserError, match="another program"):
        FrameStore(tmp_path / "other")


def test_what_is_no_store_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"make_frames\.py build"):
        FrameStore(tmp_path / "nothing")
    (tmp_path / "data.mdb").write_bytes(b"some text " * 1000)
    with pytest.raises(UserError, match="not an LMDB file"):
        FrameStore(tmp_path)


def test_reading_leaves_a_read_only_store_untouched(episodes, write_store):
    store = write_store(episodes)
    data = store.path / "data.mdb"
    data.chmod(0o444)
    before = data.read_bytes()
    store.frames([0, 100])
    assert os.listdir(store.path) == ["data.mdb"]
    assert data.read_bytes() == before


@pytest.mark.parametrize("dtype", ["|O", "i4,O", "nonsense"])
def test_bytes_of_a_store_are_never_taken_for_python_objects(noise, write_store, dtype):
    path = write_store({"a": noise(9)}, {"a": {"reward": np.arange(8.0)}}).path
    rewrite_meta(path, lambda meta: meta["episodes"][0]["arrays"]["reward"].update(dtype=dtype))
    with pytest.raises(UserError, match="'reward' of a is missing or no array"):
        FrameStore(path).array("a", "reward")


def rewrite_meta(path, change):
    """Change a store's meta record as whoever made it could: with its seal."""
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        meta = json.loads(transaction.get(b"meta"))
        change(meta)
        content = json.dumps(meta).encode()
        transaction.put(b"meta", content)
        transaction.put(b"seal", seal(content))


def test_a_pickled_store_is_refused_once_another_took_its_place(episodes, write_store, tmp_path, noise):
    store = write_store(episodes)
    pickled = pickle.dumps(store)
    os.rename(store.path, tmp_path / "older")
    write_store({"0": noise(9), **episodes})
    with pytest.raises(UserError, match="another store took its place"):
        pickle.loads(pickled)


def test_a_pickled_store_is_found_from_another_folder(episodes, write_store, tmp_path, monkeypatch):
    path = write_store(episodes).path
    monkeypatch.chdir(path.parent)
    pickled = pickle.dumps(FrameStore(path.name))
    monkeypatch.chdir("/")
    assert len(pickle.loads(pickled)) == 168


@pytest.mark.parametrize("indices", [np.ones(168, bool), [1.5], np.float64(3)])
def test_frames_are_asked_for_by_whole_numbers(episodes, write_store, indices):
    with pytest.raises(TypeError, match="by whole numbers"):
        write_store(episodes).frames(indices)


def test_pictures_beside_recordings_have_no_actions(noise, write_store):
    acted = {"action.jump": np.arange(1, 5)}
    store = write_store({"a": noise(5), "b stills": noise(3), "c": noise(5)}, {"a": acted, "c": acted}, unordered=["b stills"])
    assert store.action_windows(np.arange(13), 1)[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to count open files")
def test_a_store_closes_at_the_end_of_a_block(write_store, noise):
    path = write_store({"a": noise(40)}).path
    open_files = len(os.listdir("/proc/self/fd"))
    with FrameStore(path) as store:
        assert len(os.listdir("/proc/self/fd")) == open_files + 1
        first = store.frames([0])
    assert len(os.listdir("/proc/self/fd")) == open_files
    with pytest.raises(ValueError, match="is closed"):
        store.frames([0])
    store.close()
    np.testing.assert_array_equal(FrameStore(path).frames([0]), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).frames([0]), first)


def test_frames_held_in_memory_go_with_the_store(write_store, noise):
    with FrameStore(write_store({"a": noise(40)}).path, in_memory=True) as store:
        assert len(store.frames(range(40))) == 40
    with pytest.raises(ValueError, match="is closed"):
        store.frames([0])
