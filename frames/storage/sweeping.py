"""Walking through the half-built LMDB of a store, and removing what is there for nothing."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import lmdb

from foundation.errors import UserError
from foundation.files import exclusive_lock
from frames.storage import format
from frames.storage.opening import working_folder


def records_of(cursor: lmdb.Cursor, kind: bytes) -> Iterator[bytes]:
    """Yield the values whose keys begin with `kind`."""
    found = cursor.set_range(kind)
    while found and bytes(cursor.key()).startswith(kind):
        yield bytes(cursor.value())
        found = cursor.next()


def clear(transaction: lmdb.Transaction, prefix: bytes) -> None:
    """Remove the chunks that an interrupted run left of an episode."""
    with transaction.cursor() as cursor:
        found = cursor.set_range(prefix)
        while found and bytes(cursor.key()).startswith(prefix):
            found = cursor.delete()


def sweep(transaction: lmdb.Transaction, names: Iterable[str]) -> None:
    """Remove all but these episodes: what interrupted and unreadable recordings left, and what is not wanted."""
    kept = {format.record_key(name)[1:] for name in names}
    with transaction.cursor() as cursor:
        for kind in (b"a", b"d", b"e", b"f", b"l"):
            found = cursor.set_range(kind)
            while found and bytes(cursor.key()).startswith(kind):
                stray = kind == b"l" or bytes(cursor.key())[1 : 1 + format.NAME_BYTES] not in kept
                found = cursor.delete() if stray else cursor.next()


def remove_leftovers(path: Path) -> None:
    """Remove a working folder without a store in it, unless a process is at work there: a kill right after the rename leaves it."""
    working = working_folder(path)
    if working.exists() and not _holds_store(working):
        with suppress(UserError), exclusive_lock(working, "building a store"):
            if not _holds_store(working):
                shutil.rmtree(working, ignore_errors=True)


def _holds_store(working: Path) -> bool:
    return (working / "store" / "data.mdb").exists()
