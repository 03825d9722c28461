import errno
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.curation.splits import assign_splits
from frames.storage import format, writer
from frames.storage.format import LeftOut
from frames.storage.writer import StoreWriter, store_writer

PLAN = {"source": "a test"}
META = {"resize": "squash", "left_out": []}


def add(open_writer: StoreWriter, name: str, frames: np.ndarray, **options: object) -> None:
    open_writer.add(name, iter(frames), source=name, frames_per_second=20.0, **options)


def test_what_is_known_only_after_the_last_frame_goes_in(tmp_path, noise):
    seen = []

    def play() -> Iterator[np.ndarray]:
        for frame in noise(40):
            seen.append(1.5)
            yield frame

    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        rewards = lambda: {"reward": np.array(seen[1:], ">f4")}  # noqa: E731
        add(out, "played", play(), arrays=rewards, trimmed=lambda: {"lead": len(seen)}, task="Treechop")
        out.finish(assign_splits, META)
    store = FrameStore(tmp_path / "store")
    assert store.array("played", "reward").tolist() == [1.5] * 39
    # one byte order whatever the source's
    assert store.episodes[0].arrays["reward"].dtype == "<f4"
    assert (store.episodes[0].task, store.episodes[0].trimmed, store.meta["trimmed"]) == ("Treechop", {"lead": 40}, {"lead": 40})


def test_an_episode_that_fails_in_its_middle_leaves_nothing_and_spares_the_others(tmp_path, noise, monkeypatch):
    monkeypatch.setattr(writer, "_FLUSH_BYTES", 1)

    def broken() -> Iterator[np.ndarray]:
        yield from noise(100)
        raise ValueError("the environment died")

    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        add(out, "good", noise(40))
        with pytest.raises(ValueError, match="died"):
            add(out, "bad", broken())
        assert list(out.committed) == ["good"]
        out.finish(assign_splits, META)
    assert keys(tmp_path / "store") == keys_of("good", chunks=2)


def test_an_episode_that_is_not_wanted_at_the_end_leaves_nothing(tmp_path, noise):
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        add(out, "good", noise(40))
        add(out, "again", noise(40), arrays=lambda: {"reward": np.zeros(39)})
        out.finish(assign_splits, META, without=["again"])
    assert keys(tmp_path / "store") == keys_of("good", chunks=2)
    assert [episode.name for episode in FrameStore(tmp_path / "store").episodes] == ["good"]


def keys(path: Path) -> set[bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key for key, _ in transaction.cursor()}


def keys_of(name: str, chunks: int) -> set[bytes]:
    prefix = format.chunk_prefix(name)
    chunk_keys = {format.chunk_key(prefix, chunk) for chunk in range(chunks)}
    return chunk_keys | {format.signatures_key(name), format.record_key(name), format.META_KEY, format.SEAL_KEY, format.PLAN_KEY}


def test_memory_does_not_grow_with_the_length_of_an_episode(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_FLUSH_BYTES", 1 << 20)
    frame = np.zeros((64, 64, 3), np.uint8)
    with store_writer(tmp_path / "store", PLAN, frame.shape) as out:
        tracemalloc.start()
        out.add("long", (frame for _ in range(2000)), source="", frames_per_second=20.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20 < 2000 * frame.nbytes // 5


def test_many_threads_hold_no_more_in_memory_than_a_few(tmp_path):
    with store_writer(tmp_path / "few", PLAN, (16, 16, 3), threads=2) as few, store_writer(
        tmp_path / "many", PLAN, (16, 16, 3), threads=64
    ) as many:
        assert 64 * many._flush_bytes <= 128 << 20
        assert few._flush_bytes == 16 << 20


def write_two(path: Path, noise) -> None:
    with store_writer(path, PLAN, (16, 16, 3)) as out:
        for seed, name in enumerate(("a", "b")):
            if name not in out.committed:
                add(out, name, noise(40, seed), arrays=lambda: {"reward": np.zeros(39)})
        out.finish(assign_splits, META)


def test_a_disk_that_fills_at_any_moment_loses_nothing(tmp_path, noise, monkeypatch):
    transact, calls, fails_at = StoreWriter._transact, 0, 0

    def counted(self, work):
        nonlocal calls
        calls += 1

        def failing(transaction):
            work(transaction)
            if calls == fails_at:
                raise lmdb.DiskError("mdb_txn_commit: No space left on device")

        return transact(self, failing)

    monkeypatch.setattr(StoreWriter, "_transact", counted)
    write_two(tmp_path / "whole", noise)
    for fails_at in range(1, calls + 1):
        calls, path = 0, tmp_path / f"store {fails_at}"
        with pytest.raises(UserError, match=r"disk is full or failing .*run the same command again: it goes on"):
            write_two(path, noise)
        assert not path.exists()
        write_two(path, noise)
        assert FrameStore(path).episodes == FrameStore(tmp_path / "whole").episodes
    assert fails_at >= 5


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "cannot be written .*Read-only file system.*choose another folder"),
        (lmdb.Error("mdb_env_open: Permission denied"), "cannot be written .*choose another folder"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk is full or failing"),
        (lmdb.DiskError("mdb_put: Input/output error"), "disk is full or failing"),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT)), "working folder was removed meanwhile"),
        (lmdb.CorruptedError("mdb_get: MDB_CORRUPTED"), r"remove .*store\.building"),
    ],
)
def test_trouble_with_the_disk_is_named_with_its_remedy(tmp_path, noise, monkeypatch, error, message):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "truncate", fail)
    with pytest.raises(UserError, match=message):
        write_two(tmp_path / "store", noise)


def test_a_store_is_on_the_disk_before_it_takes_its_place(tmp_path, noise, monkeypatch):
    steps = []
    for name in ("truncate", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (steps.append(name), real(*given))[1])
    write_two(tmp_path / "store", noise)
    assert steps[-3:] == ["truncate", "fsync", "rename"]


def test_something_that_appears_in_the_stores_place_is_no_full_disk_and_costs_nothing(tmp_path, noise, monkeypatch):
    with pytest.raises(UserError, match="something else was written there meanwhile; move it away"):
        with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
            add(out, "a", noise(40))
            (tmp_path / "store").mkdir()
            (tmp_path / "store" / "diary.txt").write_text("mine")
            out.finish(assign_splits, META)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        assert out.complete
        out.publish()
    assert np.array_equal(FrameStore(tmp_path / "store").frames(range(40)), noise(40))
    assert (tmp_path / "elsewhere" / "diary.txt").read_text() == "mine"


def test_a_store_that_another_process_finished_meanwhile_is_not_written_again(tmp_path, noise):
    write_two(tmp_path / "store", noise)
    with pytest.raises(UserError, match="another process has written it meanwhile"):
        write_two(tmp_path / "store", noise)


def test_a_build_that_another_version_began_is_refused(tmp_path, noise):
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        add(out, "a", noise(40))
        out._write([(format.PLAN_KEY, json.dumps(PLAN).encode())])
    with pytest.raises(UserError, match=r"another version of this program began; remove that folder"):
        write_two(tmp_path / "store", noise)


@pytest.mark.parametrize("there", [True, False])
def test_a_store_whose_path_is_a_link_is_written_where_the_link_leads(tmp_path, noise, there):
    place = tmp_path / "disk" / "place"
    (place if there else place.parent).mkdir(parents=True)
    (tmp_path / "store").symlink_to(place)
    write_two(tmp_path / "store", noise)
    assert (tmp_path / "store").is_symlink()
    assert len(FrameStore(place)) == len(FrameStore(tmp_path / "store")) == 80
    assert sorted(os.listdir(tmp_path)) == ["disk", "store"]
    assert os.listdir(place.parent) == ["place"]


def test_a_circle_of_links_is_told_before_anything_is_written(tmp_path, noise):
    (tmp_path / "store").symlink_to("other")
    (tmp_path / "other").symlink_to("store")
    with pytest.raises(UserError, match="store: leads to a link that leads back to it"):
        write_two(tmp_path / "store", noise)
    assert sorted(os.listdir(tmp_path)) == ["other", "store"]


def test_a_store_that_is_being_written_through_a_link_is_told_as_that(tmp_path, noise):
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to("disk")
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        add(out, "a", noise(3))
        with pytest.raises(UserError, match="still being written"):
            FrameStore(tmp_path / "store")


def test_what_was_left_out_of_an_episode_is_forgotten_with_it(tmp_path, noise):
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        add(out, "a", noise(3), left_out=lambda: [LeftOut("a/bad.png", "is neither a PNG nor a JPEG")])
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        assert out.parts_left_out["a"]
        out.discard("a")
        add(out, "a", noise(4))
    with store_writer(tmp_path / "store", PLAN, (16, 16, 3)) as out:
        assert not out.parts_left_out.get("a")
