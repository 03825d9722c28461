"""Damage to files, by a seeded generator: flipped bits, cut ends, wrong headers and sizes, lost blocks, files in each other's place."""

from collections.abc import Callable, Sequence

import numpy as np

_HEADER, _INDEX = 160, 640
_MAGICS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF", b"\x1aE\xdf\xa3"),
    *(b"PK\3\4", b"\x93NUMPY\1\0", b"\x89HDF\r\n\x1a\n", b"{"),
)
_SIZES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0")

Damage = Callable[[bytearray, np.random.Generator], bytes | bytearray]


def flip_bits(content: bytearray, random: np.random.Generator) -> bytearray:
    for _ in range(random.integers(1, 4)):
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    return content


def flip_header_bits(content: bytearray, random: np.random.Generator) -> bytearray:
    for _ in range(random.integers(1, 4)):
        content[random.integers(min(_HEADER, len(content)))] ^= 1 << random.integers(8)
    return content


def truncate(content: bytearray, random: np.random.Generator) -> bytearray:
    return content[: random.integers(len(content)) if random.random() < 0.9 else 0]


def overwrite_magic(content: bytearray, random: np.random.Generator) -> bytearray:
    magic = random.choice(np.array([*_MAGICS, random.bytes(8), bytes(16)], object))
    content[: len(magic)] = magic
    return content


def overwrite_size(content: bytearray, random: np.random.Generator) -> bytearray:
    """Put the smallest or largest number where a size may stand: at the beginning, at the end, where indices are, or anywhere."""
    near = [random.integers(_HEADER), len(content) - random.integers(1, _INDEX), random.integers(len(content))][random.integers(3)]
    at = int(np.clip(near, 0, max(0, len(content) - 4))) // 4 * 4 + int(random.integers(4)) * int(random.integers(2))
    content[at : at + 4] = _SIZES[random.integers(len(_SIZES))]
    return content


def zero_block(content: bytearray, random: np.random.Generator) -> bytearray:
    at, size = random.integers(len(content)), random.integers(8, 1024)
    content[at : at + size] = bytes(len(content[at : at + size]))
    return content


def scramble_block(content: bytearray, random: np.random.Generator) -> bytearray:
    at, size = random.integers(len(content)), random.integers(8, 256)
    content[at : at + size] = random.bytes(len(content[at : at + size]))
    return content


def lose_block(content: bytearray, random: np.random.Generator) -> bytearray:
    at = random.integers(len(content))
    del content[at : at + random.integers(1, 512)]
    return content


def append_garbage(content: bytearray, random: np.random.Generator) -> bytearray:
    return content + random.bytes(random.integers(1, 256))


DAMAGES: tuple[Damage, ...] = (
    flip_bits,
    flip_header_bits,
    truncate,
    overwrite_magic,
    overwrite_size,
    overwrite_size,
    zero_block,
    scramble_block,
    lose_block,
    append_garbage,
)


def damaged(content: bytes, others: Sequence[bytes], random: np.random.Generator) -> tuple[str, bytes]:
    """Return the kind of damage and the damaged content, which is another one; `others` may take its place."""
    while True:
        choice = random.integers(len(DAMAGES) + bool(others))
        if choice == len(DAMAGES):
            kind, result = "another file", others[random.integers(len(others))]
        else:
            kind, result = DAMAGES[choice].__name__, bytes(DAMAGES[choice](bytearray(content), random))
        if result != content:
            return kind, result
