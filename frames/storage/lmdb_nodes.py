"""The nodes in pages of an LMDB's trees, many pages at a time; docs of the format stand in lmdb_pages.py."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BRANCH, LEAF = 0x01, 0x02
ON_PAGES = 0x01
HEADER, NODE = 16, 8


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


class Nodes(NamedTuple):
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


def nodes_of(content: np.ndarray, pages: np.ndarray, kind: int) -> Nodes:
    """Return the nodes of pages uint8 (P, page size) with these numbers, all branches or all leaves.

    Raises `DamagedLmdb` unless every page is sound: of that number and kind, and filled by its nodes from `upper` to its end.
    """
    return _Batch(content, pages, kind).nodes()


class _Batch:
    """Some pages of a level, uint8 (P, page size), with their numbers. Its arrays of nodes (N,) go page by page."""

    def __init__(self, content: np.ndarray, pages: np.ndarray, kind: int) -> None:
        self._content, self._pages, self._leaf = content, pages, kind == LEAF
        self._page_size = content.shape[1]
        self._words = content.view("<u2")
        self._counts, self._uppers = self._check_headers(kind)
        self._page = np.repeat(np.arange(len(pages)), self._counts)
        self._firsts = firsts_of(self._counts)

    def nodes(self) -> Nodes:
        """Return the nodes, which fill a sound page from `upper` to its end without gap or overlap."""
        places = self._places()
        low, high, flags, key_sizes = (self._words[self._page, places // 2 + part].astype(np.int64) for part in range(4))
        sizes = low | high << 16
        self._check_filled(places, key_sizes, self._stored(sizes, flags))
        keyless = np.zeros(len(places), bool)
        # what a branch's first node has for a key says nothing
        keyless[self._firsts] = not self._leaf
        self._check((key_sizes > 0) | keyless, "a node without a key")
        keys = self._bytes(places + NODE, key_sizes, int(key_sizes.max()))
        data = places + NODE + key_sizes
        numbers = self._page_numbers(data, flags) if self._leaf else (sizes | flags << 32).astype(np.uint64)
        offsets = self._pages[self._page] * self._page_size + data
        return Nodes(self._counts, keys.view(f"S{keys.shape[1]}").reshape(-1), key_sizes, sizes, flags, offsets, numbers)

    def _check_headers(self, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of nodes and `upper` of every page."""
        own = np.ascontiguousarray(self._content[:, :8]).view("<u8")[:, 0]
        flags, lower, upper = (self._words[:, at].astype(np.int64) for at in (5, 6, 7))
        counts = (lower - HEADER) // 2
        least = 1 if self._leaf else 2
        sound = (own == self._pages) & (flags == kind) & (counts >= least) & (lower % 2 == 0) & (lower <= upper) & (upper < self._page_size)
        require(sound.all(), f"page {self._pages[sound.argmin()]} has a wrong header")
        return counts, upper

    def _places(self) -> np.ndarray:
        """Return where in its page every node is."""
        table = HEADER // 2 + np.arange(len(self._page)) - self._firsts[self._page]
        places = self._words[self._page, table].astype(np.int64)
        self._check((places % 2 == 0) & (places <= self._page_size - NODE), "a node outside the page")
        return places

    def _stored(self, sizes: np.ndarray, flags: np.ndarray) -> np.ndarray:
        """Return how many bytes of data every node has in its page."""
        if not self._leaf:
            return np.zeros_like(sizes)
        if (flags & ~ON_PAGES).any():
            raise UnusualLmdb("it holds named databases or several values a key")
        return np.where(flags == ON_PAGES, 8, sizes)

    def _check_filled(self, places: np.ndarray, key_sizes: np.ndarray, stored: np.ndarray) -> None:
        order = np.lexsort((places, self._page))
        begins = places[order]
        ends = begins + (NODE + key_sizes + stored + 1)[order] // 2 * 2
        expected = np.concatenate([[0], ends[:-1]])
        expected[self._firsts] = self._uppers
        lasts = self._firsts + self._counts - 1
        self._check(begins == expected, "nodes that do not fill it")
        require((ends[lasts] == self._page_size).all(), "a page whose nodes do not fill it")

    def _page_numbers(self, data: np.ndarray, flags: np.ndarray) -> np.ndarray:
        return self._bytes(data, np.where(flags == ON_PAGES, 8, 0), 8).view("<u8").reshape(-1)

    def _bytes(self, places: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
        """Return uint8 (N, most): `sizes` bytes of every node's page from `places` on, then zeros."""
        columns = np.arange(most)
        wanted = np.minimum((self._page * self._page_size + places)[:, None] + columns, self._content.size - 1)
        return np.where(columns < sizes[:, None], self._content.reshape(-1)[wanted], 0).astype(np.uint8, copy=False)

    def _check(self, sound: np.ndarray, complaint: str) -> None:
        require(sound.all(), f"page {self._pages[self._page[sound.argmin()]]} has {complaint}")


def firsts_of(counts: np.ndarray) -> np.ndarray:
    """Return the place of every page's first node among the nodes of all pages."""
    return np.cumsum(counts) - counts


def require(sound: bool | np.bool_, complaint: str) -> None:
    if not sound:
        raise DamagedLmdb(complaint)
