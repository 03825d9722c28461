"""An LMDB file read as a plain file: its tree of pages is walked, and values are read where they lie.

Mapping the file, as LMDB does, kills the process where a page is damaged or the file is cut short under it, and fetches a whole value
page fault by page fault before a part of it can be used. Here every position is checked, any part of a value is read alone, and a
batch's parts are announced to the kernel before they are read. Nothing is written, locked or mapped.

Layout of a page (mdb.c, "LMDB 0.9"): 16 bytes of header with the page's number, flags and the end of the table of nodes; the table,
two bytes a node; the nodes. A node has 8 bytes (size or child, flags, key size), the key, and the value or the number of its page.
"""

import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path

from foundation.errors import UserError

_MAGIC, _FORMAT = 0xBEEFC0DE, 1
_HEADER, _NODE_HEADER = 16, 8
_META_BYTES, _PAGE_SIZE_AT, _ROOT_AT = 152, 40, 128
_PAGE_SIZES = [1 << power for power in range(9, 17)]
_BRANCH, _LEAF = 0x01, 0x02
_ELSEWHERE, _DUPLICATES = 0x01, 0x06
_NO_PAGE = 2**64 - 1

Extent = tuple[int, int]
# key, flags, size of the value or low half of the child's number, offset in the file of what follows the key, its first 8 bytes
_Node = tuple[bytes, int, int, int, bytes]


class PageFile:
    """The file of an LMDB, open for reading: `entries` tells where values are, `read` fetches them.

    Safe to use from several threads and after a fork. Raises `UserError` when the file is no LMDB, is shorter than its own page count or
    is damaged where it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        weakref.finalize(self, os.close, self._handle)
        # a kernel that reads ahead would fetch what a shuffled batch never uses
        self._advice = getattr(os, "posix_fadvise", None)
        if self._advice is not None:
            self._advice(self._handle, 0, 0, os.POSIX_FADV_RANDOM)
        self._page_size, self._root, self._pages = self._read_meta()

    def entries(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Extent]]:
        """Yield the keys that begin with `prefix`, in order, each with the offset and the size of its value in bytes."""
        if self._root != _NO_PAGE:
            yield from self._walk(self._root, prefix, set())

    def value(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where there is none."""
        for found, (offset, size) in self.entries(key):
            if found == key:
                content = bytearray(size)
                self.read(offset, memoryview(content))
                return bytes(content)
        return None

    def announce(self, offset: int, size: int) -> None:
        """Tell the kernel that this part is about to be read, so that a disk has many parts to fetch at once."""
        if self._advice is not None:
            self._advice(self._handle, offset, size, os.POSIX_FADV_WILLNEED)

    def read(self, offset: int, target: memoryview) -> None:
        """Fill `target`, writable bytes, from the file at `offset`; other Python threads run meanwhile."""
        try:
            done = os.preadv(self._handle, [target], offset)
            while done < len(target):
                more = os.preadv(self._handle, [target[done:]], offset + done)
                if not more:
                    raise self._damaged(f"it ends within a value at byte {offset + done:,}")
                done += more
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _read_meta(self) -> tuple[int, int, int]:
        """Return page size, root page and number of pages by the newer of the two meta pages."""
        size = os.fstat(self._handle).st_size
        if size < _META_BYTES:
            raise UserError(f"{self.path}: not a frame store (too short for an LMDB file)")
        first = self._bytes(0, _META_BYTES)
        page_size = int(struct.unpack_from("<I", first, _PAGE_SIZE_AT)[0])
        if struct.unpack_from("<I", first, _HEADER)[0] != _MAGIC:
            raise UserError(f"{self.path}: not a frame store (not an LMDB file)")
        if page_size not in _PAGE_SIZES:
            raise self._damaged(f"pages of {page_size} bytes")
        if size < page_size + _META_BYTES:
            raise UserError(f"{self.path}: truncated ({size:,} bytes); copy it again or build the store again")
        pages = first, self._bytes(page_size, _META_BYTES)
        if any(struct.unpack_from("<II", page, _HEADER) != (_MAGIC, _FORMAT) for page in pages):
            raise self._damaged("its first two pages are not of this format")
        root, last, _ = max((struct.unpack_from("<QQQ", page, _ROOT_AT) for page in pages), key=lambda found: found[2])
        if size < (last + 1) * page_size:
            missing = f"{size:,} of {(last + 1) * page_size:,} bytes"
            raise UserError(f"{self.path}: truncated ({missing}); copy it again or build the store again")
        return page_size, root, last + 1

    def _walk(self, number: int, prefix: bytes, seen: set[int]) -> Iterator[tuple[bytes, Extent]]:
        """Yield the entries below a page that begin with `prefix`; a page met twice is a loop that damage made."""
        if number in seen:
            raise self._damaged(f"page {number} is met twice")
        seen.add(number)
        flags, nodes = self._nodes(number)
        if flags & _LEAF:
            for key, node_flags, size, at, content in nodes:
                if key.startswith(prefix):
                    yield key, self._extent(node_flags, size, at, content)
            return
        # a child holds what lies between its own key and the next one's; the first has no key
        keys = [b"", *(key for key, *_ in nodes[1:])]
        for index, (_, high, low, _, _) in enumerate(nodes):
            if keys[index][: len(prefix)] <= prefix and (index + 1 == len(keys) or keys[index + 1] > prefix):
                yield from self._walk(low | high << 32, prefix, seen)

    def _nodes(self, number: int) -> tuple[int, list[_Node]]:
        """Return a page's flags and its nodes."""
        if not 1 < number < self._pages:
            raise self._damaged(f"it points to page {number} of {self._pages}")
        start = number * self._page_size
        page = self._bytes(start, self._page_size)
        own, _, flags, lower = struct.unpack_from("<QHHH", page)
        if own != number or not flags & (_BRANCH | _LEAF) or not _HEADER <= lower <= len(page):
            raise self._damaged(f"page {number} is no page of keys")
        nodes = []
        try:
            for at in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER):
                low, node_flags, key_size = struct.unpack_from("<IHH", page, at)
                key_end = at + _NODE_HEADER + key_size
                if at < lower or key_end > len(page):
                    raise self._damaged(f"a key of page {number} leaves the page")
                nodes.append((page[at + _NODE_HEADER : key_end], node_flags, low, start + key_end, page[key_end : key_end + 8]))
        except struct.error:
            raise self._damaged(f"page {number} is no page of keys") from None
        return flags, nodes

    def _extent(self, flags: int, size: int, at: int, content: bytes) -> Extent:
        """Return where a leaf's value is: at once, or on pages of its own."""
        if flags & _DUPLICATES:
            raise self._damaged("it has keys of several values")
        offset = int.from_bytes(content, "little") * self._page_size + _HEADER if flags & _ELSEWHERE else at
        if offset + size > self._pages * self._page_size:
            raise self._damaged("a value leaves the file")
        return offset, size

    def _bytes(self, offset: int, size: int) -> bytes:
        content = bytearray(size)
        self.read(offset, memoryview(content))
        return bytes(content)

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self.path}: damaged ({what}); build the store again")
