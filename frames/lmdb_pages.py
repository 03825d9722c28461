"""Finding the values of an LMDB file without liblmdb, which trusts what it maps: a damaged page number, offset or size kills the process.

Here the tree of the main database is walked with plain reads, level by level, and everything in it is checked. Format 1 (LMDB 0.9:
MDB_meta, MDB_page, MDB_node) on little-endian machines of 64 bits:

- Meta pages 0 and 1: a page header; magic and format (u32); map address and size (u64); the free and the main database, 48 bytes each
  (page size u32, flags and depth u16, pages of three kinds and entries u64, root page u64); last page and transaction (u64).
- Page header, 16 bytes: page number u64, padding, flags, lower, upper (u16). The nodes' offsets (u16) follow, up to `lower`; the nodes
  fill the page from `upper` to its end.
- Node: size u32, flags u16, key size u16, key, data, and a byte to make it even. In a branch, size and flags are the number of the child
  page, and there is no data. A large value of a leaf stands on a run of pages of its own, whose number is the node's data.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAGIC, _FORMAT = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _META = 0x01, 0x02, 0x08
_ON_PAGES = 0x01
_NO_PAGE = 2**64 - 1
_HEADER, _NODE = 16, 8
_META_PAGE = struct.Struct("<Q2xH4x2I2QI2H5QI2H5Q2Q")
_PAGE_SIZES = [1 << power for power in range(8, 16)]
_FIRST_PAGE = 2
_DEEPEST = 32
_BATCH_BYTES = 256 << 10


class DamagedLmdb(Exception):
    """A file that is no sound LMDB: the reason."""


class UnusualLmdb(Exception):
    """An LMDB whose main database holds more than plain keys and values: the reason."""


@dataclass(frozen=True)
class Keys:
    """Keys as bytes (N,), which numpy strips of trailing zero bytes, and their true sizes int64 (N,)."""

    content: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def at(self, places: slice | np.ndarray) -> "Keys":
        return Keys(self.content[places], self.sizes[places])

    def replaced(self, places: np.ndarray, keys: "Keys") -> "Keys":
        content, sizes = self.content.astype(np.promote_types(self.content.dtype, keys.content.dtype)), self.sizes.copy()
        content[places], sizes[places] = keys.content, keys.sizes
        return Keys(content, sizes)

    def before(self, other: "Keys") -> np.ndarray:
        """Say of each key whether it comes before the other one, in LMDB's order: by bytes, then by size."""
        return (self.content < other.content) | ((self.content == other.content) & (self.sizes < other.sizes))


class Values(NamedTuple):
    """What a database holds, in the order of its keys: offsets and sizes int64 (N,) of the values in the file."""

    keys: Keys
    offsets: np.ndarray
    sizes: np.ndarray


class _Meta(NamedTuple):
    page_size: int
    flags: int
    depth: int
    entries: int
    root: int
    last_page: int
    transaction: int


class _Nodes(NamedTuple):
    """All nodes of some pages: `counts` (P,) of them a page; the rest (N,).

    `offsets` of their data in the file, and `numbers` of the pages that they point to.
    """

    counts: np.ndarray
    keys: np.ndarray
    key_sizes: np.ndarray
    sizes: np.ndarray
    flags: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray


def check_pages(data: Path) -> None:
    """Raise `DamagedLmdb` or `UnusualLmdb` unless liblmdb can open and read a file without harm."""
    find_values(data)


def find_values(data: Path) -> Values:
    """Return where all values are; raise `DamagedLmdb` or `UnusualLmdb` unless the tree is sound and every value lies in the file.

    Only the pages of the tree are read: one for about sixty values that stand on pages of their own.
    """
    with _opened(data) as handle:
        return _Tree(handle).values()


def pages_end(data: Path) -> int:
    """Return the bytes that an LMDB file has when all its pages are written, the free ones at its end included.

    Raises `DamagedLmdb` when it is no LMDB file.
    """
    with _opened(data) as handle:
        return max((meta.last_page + 1) * meta.page_size for meta in _read_metas(handle))


@contextmanager
def _opened(data: Path) -> Iterator[int]:
    try:
        # a pipe of that name would be waited for
        handle = os.open(data, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield handle
        finally:
            os.close(handle)
    except OSError as error:
        raise DamagedLmdb(f"it cannot be read: {error.strerror}") from error


def _read_metas(handle: int) -> list[_Meta]:
    first = _read_meta(handle, 0, 0)
    _require(first.page_size in _PAGE_SIZES, f"pages of {first.page_size} bytes")
    metas = [first, _read_meta(handle, 1, first.page_size)]
    _require(metas[1].page_size == first.page_size, "its two first pages disagree")
    return metas


def _read_meta(handle: int, number: int, offset: int) -> _Meta:
    content = os.pread(handle, _META_PAGE.size, offset)
    _require(len(content) == _META_PAGE.size, "too short for an LMDB file")
    own, kind, magic, version, _, _, page_size, _, _, _, _, _, _, _, *main = _META_PAGE.unpack(content)
    _require(magic == _MAGIC, "not an LMDB file")
    _require(version == _FORMAT, f"of LMDB's format {version}, not {_FORMAT}")
    _, flags, depth, _, _, _, entries, root, last_page, transaction = main
    # transactions are written to the two pages in turn
    in_turn = transaction == 0 or transaction % 2 == number
    _require(own == number and kind & _META and in_turn, f"page {number} is damaged")
    return _Meta(page_size, flags, depth, entries, root, last_page, transaction)


class _Tree:
    """The tree of the main database as of the last transaction."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._file_size = os.fstat(handle).st_size
        first, second = _read_metas(handle)
        self._meta = second if second.transaction > first.transaction else first
        self._page_size = self._meta.page_size
        if self._meta.flags:
            raise UnusualLmdb(f"its main database has the flags {self._meta.flags:#x}")

    def values(self) -> Values:
        """Walk from the root to the leaves. The key of a page's first node is not stored: it is that of the page itself."""
        meta = self._meta
        lows = Keys(np.array([b""]), np.zeros(1, np.int64))
        if meta.root == _NO_PAGE:
            _require(meta.depth == meta.entries == 0, "its tree has no root")
            return Values(lows.at(slice(0)), np.empty(0, np.int64), np.empty(0, np.int64))
        _require(0 < meta.depth <= _DEEPEST, f"a tree of {meta.depth} levels")
        pages = np.array([meta.root], np.uint64)
        tree = [self._claim(pages, [])]
        for _ in range(meta.depth - 1):
            nodes = self._level(tree[-1], _BRANCH)
            lows = Keys(nodes.keys, nodes.key_sizes).replaced(_firsts(nodes.counts), lows)
            _require_order(lows)
            tree.append(self._claim(nodes.numbers, tree))
        nodes = self._level(tree[-1], _LEAF)
        keys = Keys(nodes.keys, nodes.key_sizes)
        _require_order(keys)
        _require_between(lows, keys, nodes.counts)
        _require(len(keys) == meta.entries, f"{len(keys)} entries where {meta.entries} are announced")
        return Values(keys, self._find(nodes, tree), nodes.sizes)

    def _claim(self, pages: np.ndarray, tree: list[np.ndarray]) -> np.ndarray:
        """Return the numbers of a level's pages as int64 when each is in the file, and in the tree for the first time."""
        wrong = (pages < _FIRST_PAGE) | (pages > self._meta.last_page)
        _require(not wrong.any(), f"it points to page {pages[wrong.argmax()]} of {self._meta.last_page + 1}")
        claimed = pages.astype(np.int64)
        _require((int(claimed.max()) + 1) * self._page_size <= self._file_size, "truncated: some of its pages are missing")
        known = np.concatenate([*tree, claimed])
        _require(len(np.unique(known)) == len(known), "two ways lead to the same page")
        return claimed

    def _level(self, pages: np.ndarray, kind: int) -> _Nodes:
        """Return the nodes of all pages of a level; the pages are read some at a time."""
        step = _BATCH_BYTES // self._page_size
        blocks = (pages[at : at + step] for at in range(0, len(pages), step))
        batches = [_Batch(self._read(block), block, kind).nodes() for block in blocks]
        return _Nodes(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def _read(self, pages: np.ndarray) -> np.ndarray:
        """Return pages as uint8 (P, page size)."""
        content = b"".join(os.pread(self._handle, self._page_size, page * self._page_size) for page in pages.tolist())
        _require(len(content) == len(pages) * self._page_size, "truncated: some of its pages are missing")
        return np.frombuffer(content, np.uint8).reshape(len(pages), self._page_size)

    def _find(self, leaves: _Nodes, tree: list[np.ndarray]) -> np.ndarray:
        """Return the offsets of all values in the file; those on pages of their own overlap with nothing else."""
        offsets, apart = leaves.offsets.copy(), leaves.flags == _ON_PAGES
        first, sizes = leaves.numbers[apart], leaves.sizes[apart]
        wrong = (first < _FIRST_PAGE) | (first > self._meta.last_page)
        _require(not wrong.any(), "a value stands on pages that it does not have")
        begins = first.astype(np.int64)
        lengths = (_HEADER - 1 + sizes) // self._page_size + 1
        _require((begins + lengths <= self._meta.last_page + 1).all(), "a value ends behind its last page")
        offsets[apart] = begins * self._page_size + _HEADER
        _require((offsets + leaves.sizes <= self._file_size).all(), "truncated: some of its pages are missing")
        pages = np.concatenate([begins, *tree])
        order = np.argsort(pages)
        ends = (pages + np.concatenate([lengths, *(np.ones_like(level) for level in tree)]))[order]
        _require((ends[:-1] <= pages[order][1:]).all(), "two values stand on the same page")
        return offsets


class _Batch:
    """Some pages of a level, uint8 (P, page size), with their numbers. Its arrays of nodes (N,) go page by page."""

    def __init__(self, content: np.ndarray, pages: np.ndarray, kind: int) -> None:
        self._content, self._pages, self._leaf = content, pages, kind == _LEAF
        self._page_size = content.shape[1]
        self._words = content.view("<u2")
        self._counts, self._uppers = self._check_headers(kind)
        self._page = np.repeat(np.arange(len(pages)), self._counts)
        self._firsts = _firsts(self._counts)

    def nodes(self) -> _Nodes:
        """Return the nodes, which fill a sound page from `upper` to its end without gap or overlap."""
        places = self._places()
        low, high, flags, key_sizes = (self._words[self._page, places // 2 + part].astype(np.int64) for part in range(4))
        sizes = low | high << 16
        self._check_filled(places, key_sizes, self._stored(sizes, flags))
        keyless = np.zeros(len(places), bool)
        # what a branch's first node has for a key says nothing
        keyless[self._firsts] = not self._leaf
        self._check((key_sizes > 0) | keyless, "a node without a key")
        keys = self._bytes(places + _NODE, key_sizes, int(key_sizes.max()))
        data = places + _NODE + key_sizes
        numbers = self._page_numbers(data, flags) if self._leaf else (sizes | flags << 32).astype(np.uint64)
        offsets = self._pages[self._page] * self._page_size + data
        return _Nodes(self._counts, keys.view(f"S{keys.shape[1]}").reshape(-1), key_sizes, sizes, flags, offsets, numbers)

    def _check_headers(self, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of nodes and `upper` of every page."""
        own = np.ascontiguousarray(self._content[:, :8]).view("<u8")[:, 0]
        flags, lower, upper = (self._words[:, at].astype(np.int64) for at in (5, 6, 7))
        counts = (lower - _HEADER) // 2
        least = 1 if self._leaf else 2
        sound = (own == self._pages) & (flags == kind) & (counts >= least) & (lower % 2 == 0) & (lower <= upper) & (upper < self._page_size)
        _require(sound.all(), f"page {self._pages[sound.argmin()]} has a wrong header")
        return counts, upper

    def _places(self) -> np.ndarray:
        """Return where in its page every node is."""
        table = _HEADER // 2 + np.arange(len(self._page)) - self._firsts[self._page]
        places = self._words[self._page, table].astype(np.int64)
        self._check((places % 2 == 0) & (places <= self._page_size - _NODE), "a node outside the page")
        return places

    def _stored(self, sizes: np.ndarray, flags: np.ndarray) -> np.ndarray:
        """Return how many bytes of data every node has in its page."""
        if not self._leaf:
            return np.zeros_like(sizes)
        if (flags & ~_ON_PAGES).any():
            raise UnusualLmdb("it holds named databases or several values a key")
        return np.where(flags == _ON_PAGES, 8, sizes)

    def _check_filled(self, places: np.ndarray, key_sizes: np.ndarray, stored: np.ndarray) -> None:
        order = np.lexsort((places, self._page))
        begins = places[order]
        ends = begins + (_NODE + key_sizes + stored + 1)[order] // 2 * 2
        expected = np.concatenate([[0], ends[:-1]])
        expected[self._firsts] = self._uppers
        lasts = self._firsts + self._counts - 1
        self._check(begins == expected, "nodes that do not fill it")
        _require((ends[lasts] == self._page_size).all(), "a page whose nodes do not fill it")

    def _page_numbers(self, data: np.ndarray, flags: np.ndarray) -> np.ndarray:
        return self._bytes(data, np.where(flags == _ON_PAGES, 8, 0), 8).view("<u8").reshape(-1)

    def _bytes(self, places: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
        """Return uint8 (N, most): `sizes` bytes of every node's page from `places` on, then zeros."""
        columns = np.arange(most)
        wanted = np.minimum((self._page * self._page_size + places)[:, None] + columns, self._content.size - 1)
        return np.where(columns < sizes[:, None], self._content.reshape(-1)[wanted], 0).astype(np.uint8, copy=False)

    def _check(self, sound: np.ndarray, complaint: str) -> None:
        _require(sound.all(), f"page {self._pages[self._page[sound.argmin()]]} has {complaint}")


def _firsts(counts: np.ndarray) -> np.ndarray:
    """Return the place of every page's first node among the nodes of all pages."""
    return np.cumsum(counts) - counts


def _require_order(keys: Keys) -> None:
    _require(keys.at(slice(None, -1)).before(keys.at(slice(1, None))).all(), "its keys are not in order")


def _require_between(lows: Keys, keys: Keys, counts: np.ndarray) -> None:
    """Check that the keys of every leaf are where the branches above look for them."""
    firsts = _firsts(counts)
    below = keys.at(firsts).before(lows)
    above = keys.at(firsts[1:] - 1).before(lows.at(slice(1, None)))
    _require(not below.any() and above.all(), "its keys are not where its branches look for them")


def _require(sound: bool | np.bool_, complaint: str) -> None:
    if not sound:
        raise DamagedLmdb(complaint)
