"""Reading an LMDB without LMDB gives what LMDB gives, and an error where the file is damaged."""

import random

import lmdb
import pytest

from foundation.errors import UserError
from frames.pages import PageFile


@pytest.fixture
def write_lmdb(tmp_path):
    """Write an LMDB with random keys and values of up to `largest` bytes, some deleted and overwritten again."""

    def write(seed, count, largest):
        draw = random.Random(seed)
        folder = tmp_path / f"{seed}"
        with lmdb.open(str(folder), map_size=1 << 28) as environment:
            keys = [draw.randbytes(draw.randrange(1, 60)) for _ in range(count)]
            for step in range(3):
                with environment.begin(write=True) as transaction:
                    for key in draw.sample(keys, count // (step + 1)):
                        transaction.put(key, draw.randbytes(draw.randrange(largest)))
                    for key in draw.sample(keys, count // 4):
                        transaction.delete(key)
        return folder

    return write


@pytest.mark.parametrize(("seed", "count", "largest"), [(0, 0, 1), (1, 1, 9000), (2, 60, 30_000), (3, 3000, 50), (4, 2000, 6000)])
def test_keys_and_values_are_those_that_lmdb_reads(write_lmdb, seed, count, largest):
    folder = write_lmdb(seed, count, largest)
    file = PageFile(folder / "data.mdb")
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        items = list(transaction.cursor())
    found = []
    for key, (offset, size) in file.entries():
        content = bytearray(size)
        file.read(offset, memoryview(content))
        found.append((key, bytes(content)))
    assert found == items
    for key, value in items[::97]:
        assert file.value(key) == value
        assert [one for one, _ in file.entries(key[:1])] == [one for one, _ in items if one.startswith(key[:1])]
    assert file.value(b"no such key, and too long for one of those above: " + bytes(20)) is None


def test_a_damaged_or_shortened_file_gives_an_error_or_the_truth_and_never_ends_the_process(write_lmdb):
    data = write_lmdb(5, 300, 3000) / "data.mdb"
    whole = data.read_bytes()
    draw = random.Random(0)
    messages = []
    for _ in range(200):
        content = bytearray(whole)
        # the headers and tables of the pages, where a pointer may be hit
        at = draw.randrange(0, len(whole) // 4096) * 4096 + draw.choice([draw.randrange(16), draw.randrange(160), draw.randrange(4096)])
        content[at] ^= 1 << draw.randrange(8)
        data.write_bytes(content if draw.random() < 0.8 else content[: draw.randrange(len(content))])
        try:
            file = PageFile(data)
            for _, (offset, size) in file.entries():
                file.read(offset, memoryview(bytearray(size)))
        except UserError as error:
            messages.append(str(error))
    assert 40 < len(messages) < 200
    assert all(message.startswith(str(data)) for message in messages)


def test_a_file_that_shrinks_while_it_is_open_is_an_error(write_lmdb):
    data = write_lmdb(2, 60, 30_000) / "data.mdb"
    file = PageFile(data)
    entries = list(file.entries())
    with open(data, "r+b") as shortened:
        shortened.truncate(8192)
    with pytest.raises(UserError, match="ends within a value"):
        for _, (offset, size) in entries:
            file.read(offset, memoryview(bytearray(size)))
