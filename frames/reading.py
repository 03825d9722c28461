"""Reading a store's file without mapping it: every value, or a part of it, from where it lies.

LMDB fetches a whole value, page fault by page fault, before a part of it can be used, and a file that is cut short under the mapping
kills the process. Here the parts of a batch are announced to the kernel together and then read one by one.
"""

import os
import weakref
from pathlib import Path

from foundation.errors import UserError
from frames.lmdb_pages import DamagedLmdb, UnusualLmdb, find_values


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
        except (DamagedLmdb, UnusualLmdb) as error:
            raise UserError(f"{path}: damaged ({error}); build the store again") from None

    def value(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where there is none."""
        if key not in self.extents:
            return None
        offset, size = self.extents[key]
        content = bytearray(size)
        self.read(offset, memoryview(content))
        return bytes(content)

    def announce(self, offset: int, size: int) -> None:
        """Tell the kernel that this part is about to be read, so that a disk has many parts to fetch at once."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._handle, offset, size, os.POSIX_FADV_WILLNEED)

    def read(self, offset: int, target: memoryview) -> None:
        """Fill `target`, writable bytes, from the file at `offset`; other Python threads run meanwhile."""
        try:
            done = os.preadv(self._handle, [target], offset)
            while done < len(target):
                more = os.preadv(self._handle, [target[done:]], offset + done)
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
        keys, offsets, sizes = find_values(self.path)
        named = zip(keys.content.tolist(), keys.sizes.tolist(), offsets.tolist(), sizes.tolist(), strict=True)
        # numpy strips zero bytes from the ends of keys
        self.extents = {key.ljust(key_size, b"\0"): (offset, size) for key, key_size, offset, size in named}
        return os.path.samestat(os.stat(self.path), os.fstat(self._handle))
