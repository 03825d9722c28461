"""Finding recordings that repeat others: the same frames, or the same scenes in another encoding."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations

import cv2
import numpy as np

from frames.curation.splits import merged_groups

_EXACT, _LOOKS = 0, 1
_GRID = 16
_FREQUENCIES = 64
_MIN_CONTRAST = 4.0
# two encodings of a picture seldom differ in more bits, pictures of different places hardly ever in so few
_BITS = 3
_PIECES = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_NEIGHBOURS = 8
_COMMON = 16
_SCENES = 4
_SHARE = 0.1
_ODD = 0x9E3779B97F4A7C15


def signatures(frames: np.ndarray) -> np.ndarray:
    """Return two hashes of each frame, uint8 (N, H, W, 3) to uint64 (N, 2): of its bytes, and of how it looks.

    The second differs in few bits between encodings of one picture; it is 0 where there is too little to see.
    """
    exact = [hashlib.sha1(frame, usedforsecurity=False).digest()[:8] for frame in np.ascontiguousarray(frames)]
    return np.stack([np.frombuffer(b"".join(exact), ">u8").astype(np.uint64), _looks(frames)], axis=1)


def repeated(found: Mapping[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    """Return the episodes whose frames another one holds in the same order without a gap: (the other's name, what they are to it).

    The longest stays, and the first by name of equally long ones; `found` holds the signatures uint64 (N, 2) by name.
    """
    names = sorted((name for name in found if len(found[name])), key=lambda name: (-len(found[name]), name))
    if not names:
        return {}
    sequences = _Sequences([found[name][:, _EXACT] for name in names])
    copies: dict[str, tuple[str, str]] = {}
    for place, name in enumerate(names):
        holder = sequences.holder(place)
        if holder is not None:
            other = names[holder]
            copies[name] = (other, "the same as" if len(found[other]) == len(found[name]) else "contained in")
    return copies


def related(found: Mapping[str, np.ndarray]) -> list[set[str]]:
    """Return the sets of episodes that show the same scenes: another encoding, a cut, or overlapping parts of one recording.

    Two are related when at least a tenth of the scenes of one, and four of each, have a look in the other that differs in at most 3
    of 64 bits. Scenes are frames that look different from the one before; what more than 16 others show (menus) does not count.
    """
    names = sorted(found)
    looks, owner, scene = _scenes([found[name][:, _LOOKS] for name in names])
    seen, common = _seen_elsewhere(looks, owner, scene, len(names))
    which, elsewhere = np.divmod(seen, len(names))
    pairs, counts = np.unique(owner[which] * len(names) + elsewhere, return_counts=True)
    scenes = np.bincount(owner[scene & ~common], minlength=len(names))
    shown = dict(zip(pairs.tolist(), counts.tolist(), strict=True))
    together = []
    for pair, count in shown.items():
        one, other = divmod(pair, len(names))
        back = shown.get(other * len(names) + one, 0)
        if min(count, back) >= _SCENES and count >= _SHARE * scenes[one]:
            together.append((names[one], names[other]))
    return [set(group) for group in merged_groups(names, together) if len(group) > 1]


def _scenes(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different looks of each sequence one after the other, whose they are, and whether each begins a scene."""
    looks, owner, scene = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    for place, sequence in enumerate(sequences):
        different = _distinct(sequence[sequence != 0])
        looks.append(different)
        owner.append(np.full(len(different), place))
        scene.append(np.isin(different, _scene_looks(sequence)))
    return np.concatenate(looks), np.concatenate(owner), np.concatenate(scene)


def _scene_looks(sequence: np.ndarray) -> np.ndarray:
    """Return the looks that differ from the last one returned in more bits than encodings do."""
    scenes: list[int] = []
    last = None
    for look in sequence.tolist():
        if look and (last is None or (look ^ last).bit_count() > _BITS):
            scenes.append(look)
            last = look
    return np.array(scenes, np.uint64)


def _seen_elsewhere(looks: np.ndarray, owner: np.ndarray, scene: np.ndarray, owners: int) -> tuple[np.ndarray, np.ndarray]:
    """Return place * owners + other for each scene and each other owner who shows it; and which looks too many show to count.

    Looks that differ in 3 bits agree in two of five pieces at least. So they are sorted by every two pieces, and compared with those
    next in that order: time and memory grow with the number of looks, however alike they are.
    """
    seen, common = np.empty(0, np.int64), np.zeros(len(looks), bool)
    for front in combinations(range(len(_PIECES)), len(_PIECES) - _BITS):
        left = np.flatnonzero(~common)
        near = _near(looks[left], owner[left], front)
        pairs = [left[first[told]] * owners + owner[left[second[told]]] for first, second in near if (told := scene[left[first]]).any()]
        seen = _distinct(np.concatenate([seen, *pairs]))
        common |= np.bincount(seen // owners, minlength=len(looks)) > _COMMON
        seen = seen[~common[seen // owners]]
    return seen, common


def _near(looks: np.ndarray, owner: np.ndarray, front: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of looks of different owners that are nearly the same, both ways round."""
    turned = _turned(looks, front)
    order = np.argsort(turned)
    turned = turned[order]
    for step in range(1, _NEIGHBOURS + 1):
        alike = np.flatnonzero(np.bitwise_count(turned[step:] ^ turned[:-step]) <= _BITS)
        one, other = order[alike], order[alike + step]
        apart = owner[one] != owner[other]
        yield one[apart], other[apart]
        yield other[apart], one[apart]


def _distinct(values: np.ndarray) -> np.ndarray:
    """Return the different values, sorted; on millions of them a hundred times as fast as `np.unique`, which hashes."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _turned(looks: np.ndarray, front: tuple[int, ...]) -> np.ndarray:
    """Return the looks with some pieces of their bits moved to the front, so that sorting brings those together that agree there."""
    turned = np.zeros_like(looks)
    for piece in [*(place for place in range(len(_PIECES)) if place not in front), *front]:
        shift, width = _PIECES[piece]
        turned = (turned >> np.uint64(width)) | (looks >> np.uint64(shift)) << np.uint64(64 - width)
    return turned


def _looks(frames: np.ndarray) -> np.ndarray:
    """The signs of the lowest frequencies of the brightness: perceptual hashing by the cosine transform."""
    # OpenCV averages areas only where it shrinks both ways
    for axis in (1, 2):
        if frames.shape[axis] < _GRID:
            frames = frames.repeat(-(-_GRID // frames.shape[axis]), axis=axis)
    count, height, width = frames.shape[:3]
    rows = np.ascontiguousarray(frames).reshape(count * height, width, -1)
    # one call for all: a picture's rows never mix with the next one's
    grid = cv2.resize(rows, (_GRID, count * _GRID), interpolation=cv2.INTER_AREA).reshape(count, -1).astype(np.float32)
    # pieces that BLAS takes for too small to thread: its waiting threads would take the cores from those that decode
    waves = np.concatenate([grid[at : at + 4] @ _waves() for at in range(0, count, 4)])
    bits = np.packbits(waves > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)
    contrast = np.sqrt(np.square(waves).sum(axis=1)) / _GRID
    return np.where(contrast < _MIN_CONTRAST, np.uint64(0), bits)


@cache
def _waves() -> np.ndarray:
    """The orthonormal cosine basis of the 64 lowest frequencies but the mean, over RGB pixels: float32 (16 * 16 * 3, 64)."""
    places = (np.arange(_GRID) + 0.5) * np.pi / _GRID
    scale = [np.sqrt((1 if frequency == 0 else 2) / _GRID) for frequency in range(_GRID)]
    pairs = sorted(((y, x) for y in range(_GRID) for x in range(_GRID)), key=lambda pair: (sum(pair), pair))
    waves = [scale[y] * scale[x] * np.outer(np.cos(y * places), np.cos(x * places)).ravel() for y, x in pairs[1 : _FREQUENCIES + 1]]
    return np.repeat(np.stack(waves, axis=1) / 3, 3, axis=0).astype(np.float32)


class _Sequences:
    """All sequences of hashes one after the other, longest first, and where in them a hash begins a run of its own."""

    def __init__(self, sequences: list[np.ndarray]) -> None:
        self._hashes = np.concatenate(sequences)
        self._firsts = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
        begins = np.ones(len(self._hashes), bool)
        begins[1:] = self._hashes[1:] != self._hashes[:-1]
        begins[self._firsts[:-1]] = True
        self._runs = np.flatnonzero(begins)
        self._run_ends = np.append(self._runs[1:], len(self._hashes))
        self._order = np.argsort(self._hashes[self._runs], kind="stable")
        self._sorted = self._hashes[self._runs][self._order]
        # rolling hashes: the sum of hash times power over a stretch, modulo 2**64
        self._powers = np.cumprod(np.full(len(self._hashes) + 1, _ODD, np.uint64), dtype=np.uint64)
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(self._hashes * self._powers[:-1], dtype=np.uint64)])

    def holder(self, place: int) -> int | None:
        """Return the place of the first sequence before this one that holds it whole, None where there is none.

        The first is itself held by none: whoever held it would come before it, and hold this one too.
        """
        first, end = int(self._firsts[place]), int(self._firsts[place + 1])
        length, starts = end - first, self._candidates(first, end)
        starts = starts[(starts >= 0) & (starts < first)]
        before = np.searchsorted(self._firsts, starts, "right") - 1
        starts = starts[starts + length <= self._firsts[before + 1]]
        own = (self._sums[end : end + 1] - self._sums[first : first + 1]) * self._powers[starts]
        starts = starts[(self._sums[starts + length] - self._sums[starts]) * self._powers[first] == own]
        # no trust in the rolling hash alone
        same = (at for at in starts if np.array_equal(self._hashes[at : at + length], self._hashes[first:end]))
        found = next(same, None)
        return None if found is None else int(np.searchsorted(self._firsts, found, "right")) - 1

    def _candidates(self, first: int, end: int) -> np.ndarray:
        """Return where the stretch could stand: its rarest change of frame, where there is one, must be there too."""
        runs = np.arange(*np.searchsorted(self._runs, (first, end)))
        if len(runs) == 1:
            alike = self._alike(self._hashes[first])
            return np.sort(self._runs[alike][self._run_ends[alike] - self._runs[alike] >= end - first])
        keys = self._hashes[self._runs[runs[1:]]]
        counts = np.searchsorted(self._sorted, keys, "right") - np.searchsorted(self._sorted, keys, "left")
        anchor = int(self._runs[runs[1:][np.argmin(counts)]])
        return np.sort(self._runs[self._alike(self._hashes[anchor])] - (anchor - first))

    def _alike(self, key: np.uint64) -> np.ndarray:
        """Return the runs of this hash."""
        return self._order[np.searchsorted(self._sorted, key, "left") : np.searchsorted(self._sorted, key, "right")]
