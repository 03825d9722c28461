import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest

from frames.storage.lmdb_pages import DamagedLmdb, UnusualLmdb, check_pages, find_values

HEADER, BRANCH, LEAF = 16, 1, 2


@pytest.fixture
def write_lmdb(tmp_path):
    """Write an LMDB of the given entries, or let `work` write it; return its file."""

    def write(entries=None, work=None, name="written", **options) -> Path:
        folder = tmp_path / name
        with lmdb.open(str(folder), map_size=1 << 24, sync=False, **options) as environment:
            for key, value in (entries or {}).items():
                with environment.begin(write=True) as transaction:
                    transaction.put(key, value)
            if work is not None:
                work(environment)
        return folder / "data.mdb"

    return write


def found_entries(data: Path) -> dict[bytes, bytes]:
    values, content = find_values(data), data.read_bytes()
    keys = [key.ljust(size, b"\0") for key, size in zip(values.keys.content.tolist(), values.keys.sizes.tolist(), strict=True)]
    pieces = [content[at : at + size] for at, size in zip(values.offsets.tolist(), values.sizes.tolist(), strict=True)]
    assert keys == sorted(keys)
    return dict(zip(keys, pieces, strict=True))


def scramble(environment, rng, largest_key, largest_value) -> dict[bytes, bytes]:
    """Put, replace and delete at random in some transactions; return the entries that are left."""
    left: dict[bytes, bytes] = {}
    for _ in range(rng.integers(1, 6)):
        with environment.begin(write=True) as transaction:
            for _ in range(rng.integers(1, 200 if largest_value < 5000 else 40)):
                key = rng.bytes(rng.integers(1, largest_key + 1))
                left[key] = rng.bytes(rng.integers(0, largest_value + 1))
                transaction.put(key, left[key])
            for key in rng.permutation(np.array(list(left), object))[: int(rng.random() * len(left))]:
                transaction.delete(key)
                del left[key]
    return left


@pytest.mark.parametrize(("largest_key", "largest_value"), [(2, 10), (40, 300), (511, 10), (511, 2100), (30, 30000)])
@pytest.mark.parametrize("writemap", [False, True])
def test_every_sound_lmdb_passes_and_its_values_are_found(write_lmdb, largest_key, largest_value, writemap):
    rng = np.random.default_rng([largest_key, largest_value, writemap])
    for name in "abc":
        left: dict[bytes, bytes] = {}
        data = write_lmdb(None, lambda env, left=left: left.update(scramble(env, rng, largest_key, largest_value)), name, writemap=writemap)
        assert found_entries(data) == left
        check_pages(data)


@pytest.mark.parametrize("writemap", [False, True])
def test_long_lists_of_free_pages_pass(write_lmdb, writemap):
    def write(environment):
        random = np.random.default_rng(0)
        # what a reader may still see is not used again
        with environment.begin():
            for _ in range(200):
                with environment.begin(write=True) as transaction:
                    for _ in range(3):
                        transaction.put(b"%d" % random.integers(50), random.bytes(random.integers(9000)))

    data = write_lmdb(work=write, writemap=writemap, max_readers=2)
    check_pages(data)
    meta = max((data.read_bytes()[at : at + 152] for at in (0, 4096)), key=lambda page: page[144:152][::-1])
    depth, entries = struct.unpack_from("<H", meta, 46)[0], struct.unpack_from("<Q", meta, 72)[0]
    assert depth == 2
    assert entries > 100


def test_an_empty_lmdb_has_no_values(write_lmdb):
    assert found_entries(write_lmdb()) == {}


def test_keys_that_differ_in_zero_bytes_alone_are_told_apart(write_lmdb):
    entries = {b"a" + bytes(zeros): bytes([zeros]) for zeros in range(20)}
    assert found_entries(write_lmdb(entries)) == entries


@pytest.mark.parametrize("options", [{"dupsort": True}, {"integerkey": True}])
def test_databases_of_another_kind_are_told_from_damaged_ones(write_lmdb, options):
    def write(environment):
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value", db=environment.open_db(b"named", transaction, **options))

    with pytest.raises(UnusualLmdb, match="named databases"):
        find_values(write_lmdb(work=write, max_dbs=1))


def test_truncated_at_any_page_a_file_is_refused_or_has_all_its_values(write_lmdb, tmp_path):
    entries = {b"%03d" % n: np.random.default_rng(n).bytes(5000) for n in range(60)}
    content = write_lmdb(entries).read_bytes()
    cut, passed = tmp_path / "cut.mdb", 0
    for size in range(0, len(content), 4096 - 8):
        cut.write_bytes(content[:size])
        try:
            find_values(cut)
        except DamagedLmdb:
            continue
        assert found_entries(cut) == entries
        passed += 1
    # only pages that nothing needs may be missing
    assert passed < 5


class Pages:
    """The pages of a file by kind, and a way to change them."""

    def __init__(self, data: Path) -> None:
        self.content = bytearray(data.read_bytes())
        metas = [struct.unpack_from("<Q", self.content, at + 144)[0] for at in (0, 4096)]
        self.meta = 4096 * metas.index(max(metas))
        self.root = 4096 * self.number("<Q", self.meta + 128)
        children = [self.child(at) for at in self.nodes(self.root)]
        self.leaves = [4096 * child for child in children]

    def number(self, kind: str, at: int) -> int:
        return struct.unpack_from(kind, self.content, at)[0]

    def put(self, kind: str, at: int, value: int) -> None:
        struct.pack_into(kind, self.content, at, value)

    def nodes(self, page: int) -> list[int]:
        count = (self.number("<H", page + 12) - HEADER) // 2
        return [page + offset for offset in struct.unpack_from(f"<{count}H", self.content, page + HEADER)]

    def child(self, node: int) -> int:
        return self.number("<I", node) | self.number("<H", node + 4) << 32


def swap_first_nodes(pages: Pages) -> None:
    at = pages.leaves[0] + HEADER
    first, second = struct.unpack_from("<2H", pages.content, at)
    struct.pack_into("<2H", pages.content, at, second, first)


def swap_leaves(pages: Pages) -> None:
    first, second = pages.nodes(pages.root)[1:3]
    numbers = bytes(pages.content[first : first + 6]), bytes(pages.content[second : second + 6])
    pages.content[second : second + 6], pages.content[first : first + 6] = numbers


def second_value_on_the_first(pages: Pages) -> None:
    first, second = (node + 8 + pages.number("<H", node + 6) for node in pages.nodes(pages.leaves[0])[:2])
    pages.content[second : second + 8] = pages.content[first : first + 8]


def free_the_root(pages: Pages) -> None:
    pages.put("<Q", free_list(pages), 1)
    pages.put("<Q", free_list(pages) + 8, pages.root // 4096)


def value_page(pages: Pages) -> int:
    """Return where the number of a value's first page stands."""
    node = pages.nodes(pages.leaves[1])[0]
    return node + 8 + pages.number("<H", node + 6)


DAMAGE = {
    "magic": (lambda p: p.put("<I", 16, 1), "not an LMDB file"),
    "format": (lambda p: p.put("<I", p.meta + 20, 3), "format 3"),
    "page size of nothing": (lambda p: p.put("<I", 40, 0), "pages of 0 bytes"),
    "page size of the second": (lambda p: p.put("<I", 4096 + 40, 8192), "disagree"),
    "meta flags": (lambda p: p.put("<H", p.meta + 10, 2), "page . is damaged"),
    "turn of transactions": (lambda p: p.put("<Q", p.meta + 144, p.number("<Q", p.meta + 144) ^ 1), "page . is damaged"),
    "depth too small": (lambda p: p.put("<H", p.meta + 94, 1), "wrong header"),
    "depth too large": (lambda p: p.put("<H", p.meta + 94, 3), "wrong header"),
    "depth beyond all": (lambda p: p.put("<H", p.meta + 94, 33), "33 levels"),
    "entries": (lambda p: p.put("<Q", p.meta + 120, 7), "7 are announced"),
    "root": (lambda p: p.put("<Q", p.meta + 128, 10**15), "points to page 1000000000000000"),
    "no root": (lambda p: p.put("<Q", p.meta + 128, 2**64 - 1), "no root"),
    "last page": (lambda p: p.put("<Q", p.meta + 136, 3), "points to page"),
    "number of a page": (lambda p: p.put("<Q", p.leaves[0], 1), "wrong header"),
    "kind of a page": (lambda p: p.put("<H", p.leaves[0] + 10, BRANCH), "wrong header"),
    "no nodes": (lambda p: p.put("<H", p.leaves[0] + 12, HEADER), "wrong header"),
    "lower": (lambda p: p.put("<H", p.leaves[0] + 12, 60000), "wrong header"),
    "upper": (lambda p: p.put("<H", p.leaves[0] + 14, p.number("<H", p.leaves[0] + 14) - 2), "do not fill"),
    "offset of a node": (lambda p: p.put("<H", p.leaves[0] + HEADER, 4095), "outside the page"),
    "size of a key": (lambda p: p.put("<H", p.nodes(p.leaves[0])[0] + 6, 500), "do not fill"),
    "order of keys": (swap_first_nodes, "not in order"),
    "order of pages": (swap_leaves, "not in order"),
    "key of a branch": (lambda p: p.put("<B", p.nodes(p.root)[1] + 8, 0), "not where its branches look"),
    "a child twice": (lambda p: p.put("<H", p.nodes(p.root)[1], p.child(p.nodes(p.root)[2])), "two ways"),
    "its own child": (lambda p: p.put("<H", p.nodes(p.root)[1], p.root // 4096), "two ways"),
    "a child that is no page": (lambda p: p.put("<H", p.nodes(p.root)[1] + 4, 9), "points to page"),
    "two values on a page": (second_value_on_the_first, "same page"),
    "a value on a page of the tree": (lambda p: p.put("<Q", value_page(p), p.leaves[0] // 4096), "same page"),
    "a value behind the end": (lambda p: p.put("<Q", value_page(p), 2**63 + 5), "does not have"),
    "a value too long": (lambda p: p.put("<I", p.nodes(p.leaves[1])[0], 2**31), "behind its last page"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(write_lmdb, kind):
    data = write_lmdb({b"%04d" % n: bytes([n % 256]) * 2500 for n in range(400)})
    pages = Pages(data)
    damage, message = DAMAGE[kind]
    damage(pages)
    data.write_bytes(pages.content)
    with pytest.raises(DamagedLmdb, match=message):
        find_values(data)


def free_list(pages: Pages) -> int:
    """Return where the count of the first list of free pages stands."""
    node = pages.nodes(4096 * pages.number("<Q", pages.meta + 80))[0]
    return node + 16


DAMAGE_TO_WRITERS = {
    "free page beyond the last": (lambda p: p.put("<Q", free_list(p) + 8, 10**9), "list of free pages"),
    "kind of the list": (lambda p: p.put("<H", p.meta + 44, 12), "list of free pages"),
    "free page in use": (free_the_root, "same page"),
    "free pages beyond the list": (lambda p: p.put("<Q", free_list(p), 400), "list of free pages"),
    "kind of a value's page": (lambda p: p.put("<H", 4096 * p.number("<Q", value_page(p)) + 10, LEAF), "wrong header"),
    "length of a value's pages": (lambda p: p.put("<I", 4096 * p.number("<Q", value_page(p)) + 12, 50), "same page"),
}


@pytest.mark.parametrize("kind", DAMAGE_TO_WRITERS)
def test_damage_that_only_writing_would_meet_is_named_to_writers(write_lmdb, kind):
    entries = {b"%04d" % n: bytes([n % 256]) * 2500 for n in range(400)}
    data = write_lmdb(entries)
    pages = Pages(data)
    damage, message = DAMAGE_TO_WRITERS[kind]
    damage(pages)
    data.write_bytes(pages.content)
    assert found_entries(data) == entries
    with pytest.raises(DamagedLmdb, match=message):
        check_pages(data)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(DamagedLmdb, match="cannot be read"):
        find_values(tmp_path / "nothing")
    with pytest.raises(DamagedLmdb, match="cannot be read"):
        find_values(tmp_path)
