import os
import threading
from contextlib import suppress
from pathlib import Path

import lmdb
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.looking.inspecting import verify

PAGE = 4096
DAMAGES = 300


@pytest.fixture
def compact_store(noise, write_store, tmp_path) -> Path:
    """A store of many episodes without a free page: nearly every byte matters."""
    episodes = {f"episode {n}": noise(2 + 5 * n, seed=n, size=8) for n in range(16)}
    store = write_store(episodes, {name: {"reward": np.arange(len(frames) - 1.0)} for name, frames in episodes.items()})
    (tmp_path / "compact").mkdir()
    with lmdb.open(str(store.path), readonly=True, lock=False) as environment:
        environment.copy(str(tmp_path / "compact"), compact=True)
    return tmp_path / "compact"


def everything_in(store: FrameStore) -> list[bytes]:
    return [store.frames(np.arange(len(store))).tobytes(), *(store.array(episode, "reward").tobytes() for episode in store.episodes)]


def damaged_copy(content: bytes, number: int) -> bytes:
    """Cut a file short, or flip a few bits: anywhere, in a page of the tree, or in one of the first two pages."""
    random = np.random.default_rng(number)
    if number % 6 == 0:
        return content[: random.integers(len(content))]
    trees = [at for at in range(2 * PAGE, len(content), PAGE) if content[at + 10] in (1, 2) and content[at + 11 : at + 12] == b"\0"]
    page, meta = random.choice(trees), random.choice([0, PAGE])
    start, size = [(0, len(content)), (page, PAGE), (page, 160), (meta, 152)][number % 4]
    damaged = bytearray(content)
    for _ in range(random.integers(1, 4)):
        damaged[start + random.integers(size)] ^= 1 << random.integers(8)
    return bytes(damaged)


def outcome_of_reading(path: Path, original: list[bytes]) -> str:
    try:
        store = FrameStore(path)
        intact = False
        with suppress(UserError):
            intact = everything_in(store) == original
        if verify(store):
            return "named"
        return "intact" if intact else "wrong frames"
    except UserError:
        return "refused"


def test_a_damaged_store_never_kills_its_reader_nor_gives_wrong_frames(compact_store, tmp_path):
    content = (compact_store / "data.mdb").read_bytes()
    original = everything_in(FrameStore(compact_store))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in range(DAMAGES):
                copy = tmp_path / str(number)
                copy.mkdir()
                (copy / "data.mdb").write_bytes(damaged_copy(content, number))
                os.write(writing, f"{outcome_of_reading(copy, original)}\n".encode())
        except BaseException as error:
            os.write(writing, f"{error!r}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        outcomes = report.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0, f"copy {len(outcomes)} killed its reader"
    assert len(outcomes) == DAMAGES
    assert set(outcomes) == {"refused", "named", "intact"}


def test_any_flipped_bit_of_the_meta_record_is_refused(compact_store):
    data = compact_store / "data.mdb"
    content = data.read_bytes()
    with lmdb.open(str(compact_store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        meta = transaction.get(b"meta")
    start = content.index(meta)
    for number in range(0, 8 * len(meta), 797):
        damaged = bytearray(content)
        damaged[start + number // 8] ^= 1 << number % 8
        data.write_bytes(damaged)
        with pytest.raises(UserError):
            FrameStore(compact_store)


def test_a_store_that_is_damaged_while_it_is_open_is_not_opened_again(noise, write_store):
    store = write_store({"a": noise(70)})
    data = store.path / "data.mdb"
    with open(data, "r+b") as file:
        for at in range(2 * PAGE, data.stat().st_size, PAGE):
            file.seek(at + 10)
            file.write(b"\xff")
    with pytest.raises(UserError, match=r"data\.mdb: damaged"):
        FrameStore(store.path)


def test_an_lmdb_of_named_databases_is_refused(tmp_path):
    with lmdb.open(str(tmp_path / "other"), max_dbs=1) as environment:
        environment.open_db(b"named")
    with pytest.raises(UserError, match="another program"):
        FrameStore(tmp_path / "other")


def test_threads_may_open_a_store_at_the_same_moment(noise, write_store):
    frames = noise(40)
    path = write_store({"a": frames}).path
    barrier, found = threading.Barrier(8), []

    def open_and_read():
        for _ in range(10):
            barrier.wait()
            found.append(FrameStore(path).frames(np.arange(40)))

    threads = [threading.Thread(target=open_and_read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(np.array_equal(each, frames) for each in found)
