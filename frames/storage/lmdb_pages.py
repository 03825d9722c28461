"""Finding the values of an LMDB file without liblmdb, which trusts what it maps: a damaged page number, offset or size kills the process.

Why not liblmdb behind a check of the whole file's hash, or in a child process? Walking the tree takes 0.02 s for a GB of frames,
sha256 1.4 s and blake2b 2.4 s (one core, cached; longer from a disk), and every process of a training run opens the store. A file that
is cut or overwritten while it is mapped kills its reader whatever its hash was; here it is read, never mapped, and for that the places
of the values in the file are needed, which liblmdb does not tell. LMDBs of other programs (frames/readers/image_lmdb.py) come without
a hash. A child would spare `verify` alone, while opening, reading and the check before an append all need the same walk.

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
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frames.storage.lmdb_nodes import BRANCH, HEADER, LEAF, ON_PAGES, DamagedLmdb, Keys, Nodes, UnusualLmdb, firsts_of, nodes_of, require

_MAGIC, _FORMAT = 0xBEEFC0DE, 1
_RUN, _META = 0x04, 0x08
_NO_PAGE = 2**64 - 1
_META_PAGE = struct.Struct("<Q2xH4x2I2QI2H5QI2H5Q2Q")
_RUN_HEADER = struct.Struct("<Q2xHI")
_INTEGER_KEYS = 0x08
_PAGE_SIZES = [1 << power for power in range(8, 16)]
_FIRST_PAGE = 2
_DEEPEST = 32
_BATCH_BYTES = 256 << 10


class UnreadableLmdb(DamagedLmdb):
    """A file that the system does not let us read, whatever is in it: the reason."""


class Values(NamedTuple):
    """What a database holds, in the order of its keys: offsets and sizes int64 (N,) of the values in the file.

    `pages` int64 (N,) is the first page of a value that stands on pages of its own, behind a header; 0 for the others.
    """

    keys: Keys
    offsets: np.ndarray
    sizes: np.ndarray
    pages: np.ndarray


class _Database(NamedTuple):
    flags: int
    depth: int
    entries: int
    root: int


class _Meta(NamedTuple):
    page_size: int
    free: _Database
    main: _Database
    last_page: int
    transaction: int


class _Extents(NamedTuple):
    """Runs of pages: first page and length int64 (N,)."""

    begins: np.ndarray
    lengths: np.ndarray


def find_values(data: Path) -> Values:
    """Return where all values are; raise `DamagedLmdb` or `UnusualLmdb` unless the tree is sound and every value lies in the file.

    Only the pages of the tree are read: one for about sixty values that stand on pages of their own.
    """
    with _opened(data) as handle:
        tree = _main_tree(handle)
        values = tree.values()
        _require_apart(tree.extents)
        return values


def check_pages(data: Path) -> None:
    """Raise `DamagedLmdb` or `UnusualLmdb` unless liblmdb can write to a file without harm.

    To what `find_values` checks come the headers of the pages of values, and the list of free pages.
    """
    with _opened(data) as handle:
        main = _main_tree(handle)
        main.values()
        require(main.meta.free.flags == _INTEGER_KEYS, "its list of free pages is damaged")
        free = _FreeTree(handle, main.meta, main.meta.free)
        listed = free.free_pages()
        _require_apart([*main.extents_by_header(), *free.extents_by_header(), _Extents(listed, np.ones_like(listed))])


def is_header(content: bytes, page: int) -> bool:
    """Say whether these 16 bytes are the header of a value's pages, of which `page` is the first."""
    own, kind, length = _RUN_HEADER.unpack(content)
    return bool(own == page and kind == _RUN and length > 0)


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
        raise UnreadableLmdb(f"it cannot be read: {error.strerror}") from error


def _read_metas(handle: int) -> list[_Meta]:
    first = _read_meta(handle, 0, 0)
    require(first.page_size in _PAGE_SIZES, f"pages of {first.page_size} bytes")
    metas = [first, _read_meta(handle, 1, first.page_size)]
    require(metas[1].page_size == first.page_size, "its two first pages disagree")
    return metas


def _read_meta(handle: int, number: int, offset: int) -> _Meta:
    content = os.pread(handle, _META_PAGE.size, offset)
    require(len(content) == _META_PAGE.size, "too short for an LMDB file")
    own, kind, magic, version, _, _, page_size, *databases, last_page, transaction = _META_PAGE.unpack(content)
    require(magic == _MAGIC, "not an LMDB file")
    require(version == _FORMAT, f"of LMDB's format {version}, not {_FORMAT}")
    free_flags, free_depth, _, _, _, free_entries, free_root, _, flags, depth, _, _, _, entries, root = databases
    # transactions are written to the two pages in turn
    in_turn = transaction == 0 or transaction % 2 == number
    require(own == number and kind & _META and in_turn, f"page {number} is damaged")
    free = _Database(free_flags, free_depth, free_entries, free_root)
    return _Meta(page_size, free, _Database(flags, depth, entries, root), last_page, transaction)


def _main_tree(handle: int) -> "_Tree":
    first, second = _read_metas(handle)
    meta = second if second.transaction > first.transaction else first
    if meta.main.flags:
        raise UnusualLmdb(f"its main database has the flags {meta.main.flags:#x}")
    return _Tree(handle, meta, meta.main)


class _Tree:
    """The tree of a database as of the last transaction; `extents` are the pages that were found to belong to it."""

    def __init__(self, handle: int, meta: _Meta, database: _Database) -> None:
        self.meta, self.extents = meta, list[_Extents]()
        self._handle, self._database, self._page_size = handle, database, meta.page_size
        self._file_size = os.fstat(handle).st_size

    def values(self) -> Values:
        """Walk from the root to the leaves. The key of a page's first node is not stored: it is that of the page itself."""
        database = self._database
        lows = Keys(np.array([b""]), np.zeros(1, np.int64))
        if database.root == _NO_PAGE:
            require(database.depth == database.entries == 0, "its tree has no root")
            return Values(lows.at(slice(0)), *(np.empty(0, np.int64) for _ in range(3)))
        require(0 < database.depth <= _DEEPEST, f"a tree of {database.depth} levels")
        pages = np.array([database.root], np.uint64)
        tree = [self._claim(pages, [])]
        for _ in range(database.depth - 1):
            nodes = self._level(tree[-1], BRANCH)
            lows = Keys(nodes.keys, nodes.key_sizes).replaced(firsts_of(nodes.counts), lows)
            self._require_order(lows)
            tree.append(self._claim(nodes.numbers, tree))
        nodes = self._level(tree[-1], LEAF)
        keys = Keys(nodes.keys, nodes.key_sizes)
        self._require_order(keys)
        self._require_between(lows, keys, nodes.counts)
        require(len(keys) == database.entries, f"{len(keys)} entries where {database.entries} are announced")
        self.extents = [_Extents(pages, np.ones_like(pages)) for pages in tree]
        offsets = self._find(nodes)
        return Values(keys, offsets, nodes.sizes, np.where(nodes.flags == ON_PAGES, offsets // self._page_size, 0))

    def extents_by_header(self) -> list[_Extents]:
        """Return `extents`; the runs of values with the lengths that their headers tell, which may be more than they need."""
        if not self.extents:
            return []
        *tree, runs = self.extents
        lengths = np.array([self._length_by_header(page) for page in runs.begins.tolist()], np.int64)
        require((lengths >= runs.lengths).all(), "the pages of a value have a wrong header")
        return [*tree, _Extents(runs.begins, lengths)]

    def _length_by_header(self, page: int) -> int:
        header = os.pread(self._handle, HEADER, page * self._page_size)
        length = int(_RUN_HEADER.unpack(header)[2])
        require(is_header(header, page) and length <= self.meta.last_page, f"page {page} has a wrong header")
        return length

    def _require_order(self, keys: Keys) -> None:
        require(keys.at(slice(None, -1)).before(keys.at(slice(1, None))).all(), "its keys are not in order")

    def _require_between(self, lows: Keys, keys: Keys, counts: np.ndarray) -> None:
        """Check that the keys of every leaf are where the branches above look for them."""
        firsts = firsts_of(counts)
        below = keys.at(firsts).before(lows)
        above = keys.at(firsts[1:] - 1).before(lows.at(slice(1, None)))
        require(not below.any() and above.all(), "its keys are not where its branches look for them")

    def _claim(self, pages: np.ndarray, tree: list[np.ndarray]) -> np.ndarray:
        """Return the numbers of a level's pages as int64 when each is in the file, and in the tree for the first time."""
        wrong = (pages < _FIRST_PAGE) | (pages > self.meta.last_page)
        require(not wrong.any(), f"it points to page {pages[wrong.argmax()]} of {self.meta.last_page + 1}")
        claimed = pages.astype(np.int64)
        require((int(claimed.max()) + 1) * self._page_size <= self._file_size, "truncated: some of its pages are missing")
        known = np.concatenate([*tree, claimed])
        require(len(np.unique(known)) == len(known), "two ways lead to the same page")
        return claimed

    def _level(self, pages: np.ndarray, kind: int) -> Nodes:
        """Return the nodes of all pages of a level; the pages are read some at a time."""
        step = _BATCH_BYTES // self._page_size
        blocks = (pages[at : at + step] for at in range(0, len(pages), step))
        batches = [nodes_of(self._read(block), block, kind) for block in blocks]
        return Nodes(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def _read(self, pages: np.ndarray) -> np.ndarray:
        """Return pages as uint8 (P, page size)."""
        content = b"".join(os.pread(self._handle, self._page_size, page * self._page_size) for page in pages.tolist())
        require(len(content) == len(pages) * self._page_size, "truncated: some of its pages are missing")
        return np.frombuffer(content, np.uint8).reshape(len(pages), self._page_size)

    def _find(self, leaves: Nodes) -> np.ndarray:
        """Return the offsets of all values in the file."""
        offsets, apart = leaves.offsets.copy(), leaves.flags == ON_PAGES
        first, sizes = leaves.numbers[apart], leaves.sizes[apart]
        wrong = (first < _FIRST_PAGE) | (first > self.meta.last_page)
        require(not wrong.any(), "a value stands on pages that it does not have")
        begins = first.astype(np.int64)
        lengths = (HEADER - 1 + sizes) // self._page_size + 1
        require((begins + lengths <= self.meta.last_page + 1).all(), "a value ends behind its last page")
        offsets[apart] = begins * self._page_size + HEADER
        require((offsets + leaves.sizes <= self._file_size).all(), "truncated: some of its pages are missing")
        self.extents.append(_Extents(begins, lengths))
        return offsets


class _FreeTree(_Tree):
    """The database of free pages: under the number of a transaction, how many it freed, and their numbers, the largest first."""

    def free_pages(self) -> np.ndarray:
        """Return the numbers of all free pages int64 (N,)."""
        values = self.values()
        lists = [self._list(offset, size) for offset, size in zip(values.offsets.tolist(), values.sizes.tolist(), strict=True)]
        return np.concatenate([np.empty(0, np.int64), *lists])

    def _list(self, offset: int, size: int) -> np.ndarray:
        require(size >= 8 and size % 8 == 0, "its list of free pages is damaged")
        numbers = np.frombuffer(os.pread(self._handle, size, offset), "<u8")
        count = int(numbers[0])
        require(count < len(numbers), "its list of free pages is damaged")
        free = numbers[1 : 1 + count]
        sound = ((free >= _FIRST_PAGE) & (free <= self.meta.last_page)).all() and (free[1:] < free[:-1]).all()
        require(sound, "its list of free pages is damaged")
        return free.astype(np.int64)

    def _require_order(self, keys: Keys) -> None:
        """Its keys are numbers of 64 bits; only the least key below the root is none."""
        numbers = _numbers(keys)
        sound = (numbers[1:] > numbers[:-1]).all() and (keys.sizes[1:] == 8).all() and keys.sizes[0] in (0, 8)
        require(sound, "its list of free pages is damaged")

    def _require_between(self, lows: Keys, keys: Keys, counts: np.ndarray) -> None:
        firsts, least, numbers = firsts_of(counts), _numbers(lows), _numbers(keys)
        sound = (numbers[firsts] >= least).all() and (numbers[firsts[1:] - 1] < least[1:]).all()
        require(sound, "its list of free pages is damaged")


def _numbers(keys: Keys) -> np.ndarray:
    return keys.content.astype("S8").view("<u8")


def _require_apart(extents: list[_Extents]) -> None:
    """Check that no page has two uses."""
    begins = np.concatenate([np.empty(0, np.int64), *(each.begins for each in extents)])
    lengths = np.concatenate([np.empty(0, np.int64), *(each.lengths for each in extents)])
    order = np.argsort(begins)
    ends = (begins + lengths)[order]
    require((ends[:-1] <= begins[order][1:]).all(), "two values stand on the same page")
