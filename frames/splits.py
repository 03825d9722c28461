"""Which recordings train, which validate: decided by the recording, never by the frame."""

import hashlib
from collections.abc import Iterable

from foundation.errors import UserError, nearest
from frames.format import SPLITS, Split

BY_RECORDING = "by-recording"


def assign_splits(names: Iterable[str], split: str = BY_RECORDING, val: float = 0.1, test: float = 0.0) -> dict[str, Split]:
    """Give every recording a split: the one named by `split`, or one drawn from the hash of its name.

    A draw depends on the name alone, so that a recording keeps its split when others join the store. `train` is
    never empty, nor is `val` with two recordings or more and a share above 0: the nearest draw changes sides.
    """
    names = sorted(names)
    if split != BY_RECORDING:
        return dict.fromkeys(names, known_split(split))
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UserError(f"the shares of val ({val}) and test ({test}) must be 0 or more and leave something to train on")
    ranked = sorted(names, key=_draw)
    splits: dict[str, Split] = {name: _by_draw(_draw(name), val, test) for name in ranked}
    if len(ranked) >= 2 and val > 0 and "val" not in splits.values():
        splits[ranked[0]] = "val"
    if ranked and "train" not in splits.values():
        splits[ranked[-1]] = "train"
    return splits


def known_split(split: str) -> Split:
    """Return `split` when it is one; raise `UserError` with the nearest otherwise."""
    for known in SPLITS:
        if split == known:
            return known
    raise UserError(f"no split '{split}': {nearest(split, SPLITS)}")


def _by_draw(draw: float, val: float, test: float) -> Split:
    if draw < val:
        return "val"
    return "test" if draw >= 1 - test else "train"


def _draw(name: str) -> float:
    """A number in [0, 1) that only the name decides."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
