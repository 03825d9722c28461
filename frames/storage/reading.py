"""Reading a store's file without mapping it: every value, or a part of it, from where it lies.

LMDB fetches a whole value, page fault by page fault, before a part of it can be used, and a file that is cut short under the mapping
kills the process. Here the parts of a batch are announced to the kernel together and then read one by one.
"""

import errno
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from frames.storage.lmdb_pages import DamagedLmdb, UnreadableLmdb, UnusualLmdb, find_values

_CLOSED = -1


class StoreFile:
    """The `data.mdb` of a store: `extents` says where each key's value is, as offset and size in bytes.

    It stays the same file when another takes its name. For any number of threads, and in a forked process too. Raises `UserError` when
    the file cannot be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.extents: dict[bytes, tuple[int, int]] = {}
        self._flags = getattr(os, "RWF_NOWAIT", 0)
        try:
            while not self._open():
                pass
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except UnreadableLmdb as error:
            raise UserError(f"{path}: {error}") from error
        except DamagedLmdb as error:
            raise UserError(f"{path}: damaged ({error}); copy it again or build the store again") from None
        except UnusualLmdb as error:
            raise UserError(f"{path}: damaged, or an LMDB of another program ({error})") from None

    def value(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where there is none."""
        if key not in self.extents:
            return None
        offset, size = self.extents[key]
        content = bytearray(size)
        self.read([(offset, 0, size)], memoryview(content))
        return bytes(content)

    def read(self, parts: Sequence[tuple[int, int, int]], target: memoryview) -> None:
        """Fill `target[begin:end]`, bytes, from the file at `offset`, for every part (offset, begin, end).

        What is in memory already is copied; the kernel is told of all the rest, so that a disk has many parts to fetch at once, before
        it is waited for. Other Python threads run meanwhile. Raises `ValueError` after `close`.
        """
        handle, read = self._handle, os.preadv
        if handle == _CLOSED:
            raise ValueError(f"{self.path}: the store is closed")
        try:
            missing = self._read_cached(parts, target) if self._flags else parts
            if missing and hasattr(os, "posix_fadvise"):
                for offset, begin, end in missing:
                    os.posix_fadvise(handle, offset, end - begin, os.POSIX_FADV_WILLNEED)
            for offset, begin, end in missing:
                done = 0
                while done < end - begin:
                    more = read(handle, [target[begin + done : end]], offset + done)
                    if not more:
                        raise UserError(f"{self.path}: truncated at byte {offset + done:,}; copy it again or build the store again")
                    done += more
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Let go of the file, for good; no thread may be reading."""
        # first, for the number may be another file's as soon as it is free
        self._handle = _CLOSED
        self._close()

    def _read_cached(self, parts: Sequence[tuple[int, int, int]], target: memoryview) -> Sequence[tuple[int, int, int]]:
        """Read what needs no waiting; return the parts that are missing."""
        handle, read, flags = self._handle, os.preadv, self._flags
        missing = []
        for part in parts:
            offset, begin, end = part
            try:
                if read(handle, [target[begin:end]], offset, flags) < end - begin:
                    missing.append(part)
            except BlockingIOError:
                missing.append(part)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                # a file system that cannot tell what it would wait for
                self._flags = 0
                return parts
        return missing

    def _open(self) -> bool:
        """Open the file and find its values; return whether no other file took its name meanwhile."""
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._handle)
        if hasattr(os, "posix_fadvise"):
            # a kernel that reads ahead would fetch what a shuffled batch never uses
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_RANDOM)
        keys, offsets, sizes, _ = find_values(self.path)
        named = zip(keys.content.tolist(), keys.sizes.tolist(), offsets.tolist(), sizes.tolist(), strict=True)
        # numpy strips zero bytes from the ends of keys
        self.extents = {key.ljust(key_size, b"\0"): (offset, size) for key, key_size, offset, size in named}
        return os.path.samestat(os.stat(self.path), os.fstat(self._handle))
