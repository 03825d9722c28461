"""Which recordings train, which validate: decided by the recording, never by the frame."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from foundation.errors import UserError, nearest
from frames.storage.format import SPLITS, Split

BY_RECORDING = "by-recording"
# of two splits that are said of one thing, the one that lets nothing leak into what is measured
_STRICTEST: tuple[Split, ...] = ("test", "val", "train")


def assign_splits(
    names: Iterable[str],
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
    groups: Iterable[Collection[str]] = (),
    given: Mapping[str, Split] | None = None,
    kept: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Give every recording a split: the one named by `split`, or else one drawn from the hash of its name.

    A draw depends on the name alone, so that a recording keeps its split when others join the store. Those that share a set of
    `groups` share a split, drawn from the first of their names. `given` are the splits that the source says: they decide for the
    whole group, test before val before train. Where the source names no `val` at all, a share of what it names `train` is drawn for
    it. `kept` recordings stay where they are, whatever else is said. `groups` and `given` may tell of copies that `names` lacks.

    Without the source's word, `train` is never empty, nor is `val` with two groups or more and a share above 0: the nearest draw
    changes sides. Raises `UserError` for shares that leave nothing to train on, and for a split that is none.
    """
    names = sorted(names)
    if split != BY_RECORDING:
        return {**dict.fromkeys(names, known_split(split)), **_among(names, kept)}
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UserError(f"the shares of val ({val}) and test ({test}) must be 0 or more and leave something to train on")
    given, kept, groups, present = given or {}, _among(names, kept), list(groups), set(names)
    connected = merged_groups(chain(names, *groups), groups)
    units = [unit for members in connected if (unit := _unit(members, present, given, kept)).members]
    units.sort(key=lambda unit: unit.draw)
    chosen = _drawn(units, val, test, val_given="val" in given.values())
    _fill(units, chosen, val, kept.values())
    return {name: kept.get(name, part) for unit, part in zip(units, chosen, strict=True) for name in unit.members}


def joined_splits(names: Iterable[str], given: Mapping[str, Split], groups: Iterable[Collection[str]]) -> dict[str, Split]:
    """Return the split of every recording of a store that has them: the one `given`, or the strictest of those that `groups` join.

    Nothing is drawn, and no split is filled: where none is given `val`, none gets it. `given` says one for each of `names`, and, as
    `groups` may, for copies that `names` lacks.
    """
    present, groups = set(names), list(groups)
    splits: dict[str, Split] = {}
    for connected in merged_groups(chain(present, *groups), groups):
        said = strictest_split([given[name] for name in connected if name in given])
        splits |= {name: said for name in connected if name in present}
    return splits


def merged_groups(names: Iterable[str], groups: Iterable[Collection[str]]) -> list[list[str]]:
    """Return the names in sets that share none: those that some chain of groups connects, sorted; the others are alone.

    `groups` may hold other names too: they connect, and are not returned.
    """
    names, chains = sorted(set(names)), [sorted(group) for group in groups]
    leader = {name: name for name in chain(names, *chains)}

    def lead(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for group in chains:
        for name in group[1:]:
            first, second = sorted((lead(group[0]), lead(name)))
            leader[second] = first
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(lead(name), []).append(name)
    return list(members.values())


def split_conflicts(groups: Iterable[Collection[str]], given: Mapping[str, Split]) -> list[tuple[str, ...]]:
    """Return the groups whose members the source puts into different splits, as sorted names: for a warning."""
    return [tuple(sorted(group)) for group in groups if len({given[name] for name in group if name in given}) > 1]


def known_split(split: str) -> Split:
    """Return `split` when it is one; raise `UserError` with the nearest otherwise."""
    for known in SPLITS:
        if split == known:
            return known
    raise UserError(f"no split '{split}': {nearest(split, SPLITS)}")


def strictest_split(splits: Collection[Split]) -> Split:
    """Return the one that leaks nothing where several are said of the same frames: test before val before train."""
    return next(split for split in _STRICTEST if split in splits)


@dataclass(frozen=True)
class _Unit:
    """Recordings that share a split; `fixed` where some of them are in a store already."""

    members: list[str]
    draw: float
    given: Split | None
    fixed: bool


def _unit(connected: list[str], present: set[str], given: Mapping[str, Split], kept: Mapping[str, Split]) -> _Unit:
    members = [name for name in connected if name in present]
    fixed = [kept[name] for name in members if name in kept]
    # the word on a copy that was left out holds for the one that stays
    said = fixed or [given[name] for name in connected if name in given]
    return _Unit(members, _draw(members[0]) if members else 0.0, strictest_split(said) if said else None, bool(fixed))


def _drawn(units: list[_Unit], val: float, test: float, val_given: bool) -> list[Split]:
    chosen: list[Split] = []
    for unit in units:
        if unit.given is None:
            chosen.append(_by_draw(unit.draw, val, test))
        elif unit.given == "train" and not unit.fixed and not val_given:
            chosen.append(_by_draw(unit.draw, val, 0.0))
        else:
            chosen.append(unit.given)
    return chosen


def _fill(units: list[_Unit], chosen: list[Split], val: float, kept: Collection[Split]) -> None:
    """Where `val` or `train` is empty, move the free unit whose draw is nearest to it: the lowest, the highest."""
    free = [place for place, unit in enumerate(units) if not unit.fixed and unit.given in (None, "train")]
    train_stays = len(free) > 1 or "train" in kept or any(chosen[place] == "train" for place in range(len(units)) if place not in free)
    if free and val > 0 and "val" not in {*chosen, *kept} and len(units) > 1 and train_stays:
        chosen[free[0]] = "val"
    if free and "train" not in {*chosen, *kept}:
        chosen[free[-1]] = "train"


def _among(names: Collection[str], splits: Mapping[str, Split] | None) -> dict[str, Split]:
    present = set(names)
    return {name: split for name, split in (splits or {}).items() if name in present}


def _by_draw(draw: float, val: float, test: float) -> Split:
    if draw < val:
        return "val"
    return "test" if draw >= 1 - test else "train"


def _draw(name: str) -> float:
    """A number in [0, 1) that only the name decides."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
