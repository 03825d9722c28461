"""Kinds of block by name, as recorded segmentations number them."""

from envs.voxel.blocks import NAMES, SKY
from foundation.errors import UserError, nearest

THINGS = ("log", "leaves", "grass+dirt+stone+sand+bedrock", "cave", "sky")
"""What one sees in the voxel world: trunks, foliage, ground, caves and sky, whatever each is made of; other blocks are each their own."""


def numbers_of(blocks: tuple[str, ...], option: str) -> list[list[int]]:
    """Return the numbers of each entry's kinds of block, names or numbers joined by +; raise `UserError` for a name that no block has."""
    known = {**{name: [number for number, other in enumerate(NAMES) if other == name] for name in NAMES}, "sky": [SKY]}
    found = []
    for entry in blocks:
        numbers = []
        for name in entry.split("+"):
            if not name.isdecimal() and name not in known:
                raise UserError(f"{option} {entry}: {nearest(name, set(known))}")
            numbers += [int(name)] if name.isdecimal() else known[name]
        found.append(numbers)
    return found
