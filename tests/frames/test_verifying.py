"""A store is verified even where reading it kills the reader."""

import os
import signal

import lmdb
import pytest

from foundation.errors import UserError
from frames import FrameStore, format, verifying
from frames.verifying import verify_apart


def test_a_sound_store_is_clean(noise, write_store):
    assert verify_apart(write_store({"a": noise(40), "b": noise(300)})) == []


def flip(store: FrameStore, key: bytes) -> None:
    """Change a bit of a value."""
    with lmdb.open(str(store.path), map_size=1 << 26, lock=False) as environment, environment.begin(write=True) as transaction:
        content = bytearray(transaction.get(key))
        content[100] ^= 1
        transaction.put(key, bytes(content))


def killed_at(monkeypatch, episode: int, number: signal.Signals) -> None:
    """Let the reader of an episode die as of a fault in the mapped file."""
    damage = verifying._Reader.damage

    def fatal(reader, asked, advance):
        if asked == episode:
            os.kill(reader._process.pid, number)
        return damage(reader, asked, advance)

    monkeypatch.setattr(verifying._Reader, "damage", fatal)


def test_an_episode_that_kills_its_reader_is_named_and_the_rest_is_read(noise, write_store, monkeypatch):
    store = write_store({name: noise(200, seed=ord(name)) for name in "abc"})
    flip(store, format.chunk_key(format.chunk_prefix("c"), 2))
    killed_at(monkeypatch, 1, signal.SIGBUS)
    damaged = verify_apart(FrameStore(store.path))
    assert damaged == [("b", "reading it kills its reader (SIGBUS)"), ("c", "its frames are not what was written")]


def test_a_reader_that_was_stopped_from_outside_is_no_damage(noise, write_store, monkeypatch):
    store = write_store({name: noise(40, seed=ord(name)) for name in "ab"})
    killed_at(monkeypatch, 1, signal.SIGKILL)
    with pytest.raises(UserError, match=r"stopped from outside \(SIGKILL\)"):
        verify_apart(store)
