"""Walking through the half-built LMDB of a store, and removing what is in it for nothing."""

from collections.abc import Iterable, Iterator

import lmdb

from frames import format


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
