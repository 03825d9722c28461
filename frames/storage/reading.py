"""Reading a store's file without mapping it: every value, or a part of it, from where it lies.

LMDB fetches a whole value, page fault by page fault, before a part of it can be used, and a file that is cut short under the mapping
kills the process. Here the parts of a batch are announced to the kernel together and then read one by one.
"""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from frames.storage.lmdb_pages import DamagedLmdb, UnreadableLmdb, UnusualLmdb, find_values


class StoreFile:
    """The `data.mdb` of a store: `extents` says where each key's value is, as offset and size in bytes.

    It stays the same file when another takes its name. For any number of threads, and in a forked process too. Raises `UserError` when
    the file cannot be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.extents: dict[bytes, tuple[int, int]] = {}
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

        The kernel is told of all parts first, so that a disk has many to fetch at once. Other Python threads run meanwhile.
        """
        handle, announce, read = self._handle, getattr(os, "posix_fadvise", None), os.preadv
        try:
            if announce is not None:
                for offset, begin, end in parts:
                    announce(handle, offset, end - begin, os.POSIX_FADV_WILLNEED)
            for offset, begin, end in parts:
                done = read(handle, [target[begin:end]], offset)
                while done < end - begin:
                    more = read(handle, [target[begin + done : end]], offset + done)
                    if not more:
                        raise UserError(f"{self.path}: truncated at byte {offset + done:,}; copy it again or build the store again")
                    done += more
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _open(self) -> bool:
        """Open the file and find its values; return whether no other file took its name meanwhile."""
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)
        if hasattr(os, "posix_fadvise"):
            # a kernel that reads ahead would fetch what a shuffled batch never uses
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_RANDOM)
        keys, offsets, sizes, _ = find_values(self.path)
        named = zip(keys.content.tolist(), keys.sizes.tolist(), offsets.tolist(), sizes.tolist(), strict=True)
        # numpy strips zero bytes from the ends of keys
        self.extents = {key.ljust(key_size, b"\0"): (offset, size) for key, key_size, offset, size in named}
        return os.path.samestat(os.stat(self.path), os.fstat(self._handle))
