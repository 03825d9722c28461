"""A store's file is read as LMDB reads it, and stays readable whatever happens to its name."""

import os
import random

import lmdb
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.reading import StoreFile


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
