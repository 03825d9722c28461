"""A store's file is read as LMDB reads it, and stays readable whatever happens to its name."""

import errno
import os
import random
import resource

import lmdb
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.storage.lmdb_pages import pages_end
from frames.storage.reading import StoreFile


def test_values_are_those_that_lmdb_reads(tmp_path):
    draw = random.Random(0)
    # keys that end with zero bytes, values in a page and on many
    items = {b"f" + draw.randbytes(4) + bytes(length): draw.randbytes(length**3) for length in range(30)}
    with lmdb.open(str(tmp_path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in items.items():
            transaction.put(key, value)
    file = StoreFile(tmp_path / "data.mdb")
    assert {key: file.value(key) for key in file.extents} == items
    assert file.value(b"f") is None


def test_a_file_that_shrinks_while_it_is_read_is_an_error(noise, write_store):
    store = write_store({"a": noise(200)})
    os.truncate(store.path / "data.mdb", 64 << 10)
    with pytest.raises(UserError, match=r"data\.mdb: truncated at byte"):
        store.frames(np.arange(200))


def test_a_reader_from_before_the_fork_reads_its_own_file_after_another_took_its_name(noise, write_store, tmp_path):
    store, newer = write_store({"a": noise(40)}), write_store({"n": noise(40, seed=1)}, path=tmp_path / "newer")
    os.rename(store.path, tmp_path / "older")
    os.rename(newer.path, store.path)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(store.frames([39, 3]), noise(40)[[39, 3]]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(FrameStore(store.path).frames([3]), noise(40, seed=1)[3:4])


def test_a_store_that_an_append_replaces_while_it_is_opened_is_read_whole(noise, write_store, tmp_path, monkeypatch):
    older, newer = write_store({"a": noise(4)}), write_store({"a": noise(4), "b": noise(200)}, path=tmp_path / "newer")

    def replaced(data):
        if newer.path.joinpath("data.mdb").exists():
            os.replace(newer.path / "data.mdb", older.path / "data.mdb")
        return pages_end(data)

    monkeypatch.setattr("frames.storage.opening.pages_end", replaced)
    assert len(FrameStore(older.path)) == 204


def test_stores_that_are_forgotten_are_closed(noise, write_store):
    path = write_store({"a": noise(4)}).path
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        FrameStore(path).frames([1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_store_that_may_not_be_opened_is_not_called_damaged(noise, write_store):
    path = write_store({"a": noise(4)}).path
    held, limits = [], resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
    try:
        with pytest.raises(UserError, match=r"data\.mdb: (it )?cannot be read.*Too many open files"):
            held.extend(FrameStore(path) for _ in range(100))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(held[0]) == 4


@pytest.mark.parametrize("answer", ["not in memory", "half in memory", "cannot tell"])
def test_what_is_not_in_memory_is_waited_for(write_store, noise, monkeypatch, answer):
    frames = noise(80)
    store = write_store({"a": frames})
    plain, asked = os.preadv, []

    def preadv(handle, buffers, offset, flags=0):
        asked.append(flags)
        if not flags:
            return plain(handle, buffers, offset)
        if answer == "not in memory":
            raise BlockingIOError
        if answer == "cannot tell":
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return plain(handle, [buffers[0][: len(buffers[0]) // 2]], offset)

    monkeypatch.setattr(os, "preadv", preadv)
    wanted = [70, 3, 4, 41]
    assert np.array_equal(store.frames(wanted), frames[wanted])
    assert np.array_equal(store.frames(wanted), frames[wanted])
    # a file system that cannot tell is asked once
    assert sum(flags != 0 for flags in asked) <= (1 if answer == "cannot tell" else 8)
