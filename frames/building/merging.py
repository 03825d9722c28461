"""Finished stores made into one: their episodes side by side, each with its split and what was recorded beside it."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import UserError, first_names
from foundation.progress import progress_bar, say
from frames.action_columns import array_width
from frames.building.appending import WHOLE, left_out_of
from frames.building.build import BuildSummary, finished_summary
from frames.curation.duplicates import related, repeated
from frames.curation.splits import joined_splits
from frames.scenes.factors import FACTORS
from frames.storage.format import ArrayInfo, Episode, LeftOut, Split
from frames.storage.writer import StoreWriter, finished_store, store_writer
from frames.store import FrameStore

_READ_AT_ONCE = 256


@dataclass(frozen=True)
class MergeSummary:
    """What a merge did; `dropped` says of arrays that not all episodes share, by name, why they are left out."""

    built: BuildSummary
    dropped: dict[str, str]


@dataclass(frozen=True)
class _Part:
    """An episode of one of the stores, under the name that it gets."""

    name: str
    store: FrameStore
    episode: Episode


def merge_stores(sources: Sequence[str | Path], path: str | Path) -> MergeSummary:
    """Fill the store at `path` with all episodes of the stores `sources`, which stay as they are.

    Episodes keep their split, source, task and frames; none is drawn, so that without `val` in any of the stores there is none. A name that
    two of the stores have is put behind the name of its store's folder. Episodes whose frames another one holds are left out; those that
    show the same, or one world, share a split, test before val before train, and it is said which change theirs. Rewards and other
    observations stay where there are any. Actions, segmentation and masks stay where all have the same kind of them: an action that not
    all have would leave the store without actions.

    An interrupted merge goes on. Raises `UserError` for stores whose frames have another shape or were resized otherwise, for damaged
    ones, and where something else is at `path`.
    """
    path, began = Path(path), time.monotonic()
    stores = [FrameStore(source) for source in sources]
    _check(stores, [Path(source) for source in sources], path)
    parts = {part.name: part for part in _named(stores)}
    dropped = _not_shared(stores)
    plan = {
        "source": ", ".join(dict.fromkeys(str(store.meta["plan"]["source"]) for store in stores)),
        "merged": [store.fingerprint for store in stores],
        "identities": [store.identity for store in stores],
        "window": stores[0].meta["plan"].get("window"),
    }
    _check_made_of(path, plan, stores)
    finished = finished_store(path, plan)
    if finished is not None:
        return MergeSummary(finished_summary(finished), dropped)
    with store_writer(path, plan, stores[0].frame_shape) as writer:
        _discard_changed(writer, parts, dropped)
        kept = len(writer.committed)
        _copy(writer, parts, dropped)
        decoded = len(writer.committed) - kept
        repeats, alike = _compared(writer)
        left_out = [_left_out(parts[name].episode, name, *why) for name, why in repeats.items()]
        listed = [entry for store in stores for entry in left_out_of(store)] + left_out
        given: dict[str, Split] = {name: part.episode.split for name, part in parts.items()}
        meta = {"resize": stores[0].meta["resize"], "left_out": [asdict(entry) for entry in listed], **_lineage(stores, dropped)}
        writer.finish(partial(_joined, given=given, groups=alike), meta, repeats)
    store, seconds = FrameStore(path), time.monotonic() - began
    built = BuildSummary(path, len(store), len(store.episodes), decoded, kept, left_out, seconds, trimmed=store.meta["trimmed"])
    return MergeSummary(built, dropped)


def _check(stores: Sequence[FrameStore], paths: Sequence[Path], path: Path) -> None:
    """Raise `UserError` for fewer than two stores, for one given twice, and for stores whose frames do not mean the same."""
    if len(stores) < 2:
        raise UserError("a merge takes two stores or more: make_frames.py merge STORE STORE2 --store STORE3")
    fingerprints = [store.fingerprint for store in stores]
    twice = next((paths[at] for at, one in enumerate(fingerprints) if one in fingerprints[:at]), None)
    if twice is not None:
        raise UserError(f"{twice}: is given twice, or holds the same as another; name each store once")
    if any(path.resolve() == one.resolve() for one in paths):
        raise UserError(f"--store {path}: is one of the stores to merge; choose another path")
    first = stores[0]
    for other in stores[1:]:
        for what, one, another in (
            ("frames of shape", first.frame_shape, other.frame_shape),
            ("frames resized by", first.meta["resize"], other.meta["resize"]),
            ("parts of the pictures", first.meta["plan"].get("window"), other.meta["plan"].get("window")),
        ):
            if one != another:
                raise UserError(f"{first.path} and {other.path} cannot be merged: {what} {one} and {another}; build one of them again")


def _check_made_of(path: Path, plan: Mapping[str, Any], stores: Sequence[FrameStore]) -> None:
    """Raise `UserError` where the finished store at `path` was merged from what these stores held before, in the same frames."""
    found = FrameStore(path).meta["plan"] if (path / "data.mdb").exists() else {}
    before = found.get("identities")
    if found.get("merged") != plan["merged"] or not isinstance(before, list):
        return
    changed = [str(store.path) for store in stores if store.identity not in before]
    if changed:
        what = "the same frames with other splits, names or arrays"
        raise UserError(f"{path}: is finished, but made of other content of {', '.join(changed)} ({what}); merge into another store path")


def _named(stores: Sequence[FrameStore]) -> Iterator[_Part]:
    """Give every episode a name of its own."""
    counts = Counter(episode.name for store in stores for episode in store.episodes)
    folders = [store.path.resolve().name for store in stores]
    taken = {name for name, count in counts.items() if count == 1}
    for number, (store, folder) in enumerate(zip(stores, folders, strict=True), 1):
        prefix = folder if folders.count(folder) == 1 else f"{folder} {number}"
        for episode in store.episodes:
            name = episode.name if counts[episode.name] == 1 else f"{prefix}/{episode.name}"
            if name != episode.name and name in taken:
                raise UserError(f"{store.path}: '{episode.name}' is in another store too, and so is '{name}'; rename the folder")
            yield _Part(name, store, episode)


def _not_shared(stores: Sequence[FrameStore]) -> dict[str, str]:
    """Return which actions, segmentations, masks and factors do not stay, and why."""
    episodes = [(store, episode) for store in stores for episode in store.episodes]
    acting = [(store, episode) for store, episode in episodes if episode.ordered and episode.length > 1]
    dropped = {}
    for name in sorted({name for _, episode in episodes for name in episode.arrays}):
        if not (is_action := name.startswith("action")) and name not in WHOLE:
            continue
        kinds: dict[Any, FrameStore] = {}
        for store, episode in acting if is_action else episodes:
            info = episode.arrays.get(name)
            kinds.setdefault(None if info is None else _kind(info, is_action), store)
        if None in kinds:
            dropped[name] = f"{kinds[None].path} has episodes without it"
        elif len(kinds) > 1:
            one, another = list(kinds.values())[:2]
            where = f"in {one.path} and {another.path}" if one is not another else f"within {one.path}"
            dropped[name] = f"it is of another type or shape {where}"
    if FACTORS not in dropped and len({str(store.meta.get("factors")) for store in stores}) > 1:
        dropped[FACTORS] = "the stores have other factors"
    return dropped


def _kind(info: ArrayInfo, is_action: bool) -> Any:
    if is_action:
        return array_width(info.shape), np.dtype(info.dtype).kind == "U"
    return info.dtype, info.shape[1:]


def _lineage(stores: Sequence[FrameStore], dropped: Mapping[str, str]) -> dict[str, Any]:
    """Return what the merged store's record says of where it comes from."""
    made_of = [{"path": str(store.path.absolute()), "fingerprint": store.fingerprint, "plan": store.meta["plan"]} for store in stores]
    factors = stores[0].meta.get("factors")
    kept = {"factors": factors} if factors is not None and FACTORS not in dropped else {}
    return {"made_of": made_of, "dropped": dict(dropped), **kept}


def _copy(writer: StoreWriter, parts: Mapping[str, _Part], dropped: Mapping[str, str]) -> None:
    """Write the episodes that are not there from an earlier run; raise `UserError` for one that is not what its store says."""
    total = sum(part.episode.length for part in parts.values())
    with progress_bar("merging", total, "frames", sum(episode.length for episode in writer.committed.values())) as advance:
        for name, part in parts.items():
            if name in writer.committed:
                continue
            episode, store = part.episode, part.store

            def arrays(store: FrameStore = store, episode: Episode = episode) -> dict[str, np.ndarray]:
                return {array: store.array(episode, array) for array in episode.arrays if array not in dropped}

            copied = writer.add(
                name,
                _frames(store, episode),
                source=episode.source,
                frames_per_second=episode.frames_per_second,
                arrays=arrays,
                trimmed=partial(dict, episode.trimmed),
                task=episode.task,
                ordered=episode.ordered,
                origin=episode.origin,
            )
            if not _is_copy(copied, part, dropped):
                writer.discard(name)
                raise UserError(f"{store.path}: '{episode.name}' is damaged; copy the store again or build it again")
            advance(episode.length)


def _is_copy(copied: Episode, part: _Part, dropped: Mapping[str, str]) -> bool:
    """Say whether what was written is what the store says of an episode, but for the arrays that do not stay."""
    kept = {name: info for name, info in part.episode.arrays.items() if name not in dropped}
    return (copied.content, copied.arrays) == (part.episode.content, kept)


def _discard_changed(writer: StoreWriter, parts: Mapping[str, _Part], dropped: Mapping[str, str]) -> None:
    """Drop what an earlier run copied of episodes that their stores no longer have like that."""
    for name, copied in list(writer.committed.items()):
        if name not in parts or not _is_copy(copied, parts[name], dropped):
            writer.discard(name)


def _joined(names: Iterable[str], given: Mapping[str, Split], groups: Sequence[set[str]]) -> dict[str, Split]:
    """Return the split of each episode, and say which are in another one than in their store."""
    splits = joined_splits(names, given, groups)
    moved = [f"{name} ({given[name]}, now {split})" for name, split in sorted(splits.items()) if split != given[name]]
    if moved:
        why = "that show the same or were played in the same world"
        say(f"{len(moved):,} episodes take the split of others {why}: {first_names(moved)}")
    return splits


def _frames(store: FrameStore, episode: Episode) -> Iterator[np.ndarray]:
    end = episode.first + episode.length
    for first in range(episode.first, end, _READ_AT_ONCE):
        yield from store.frames(np.arange(first, min(end, first + _READ_AT_ONCE)))


def _compared(writer: StoreWriter) -> tuple[dict[str, tuple[str, str]], list[set[str]]]:
    """Return the episodes that repeat another, as name -> (other, how), and the sets that show the same.

    What looks alike counts for recordings alone: rollouts look alike where their worlds do, and are none the less apart, unless they were
    played in one world, of the same seed and number. Tasks may share their worlds, as VoxelNavigate and VoxelNavigateDense do, and no store
    says which: rollouts of every task count.
    """
    worlds: dict[tuple[int, int], set[str]] = {}
    for name, episode in writer.committed.items():
        if episode.task and episode.rollout:
            worlds.setdefault(episode.rollout, set()).add(name)
    with writer.signatures() as seen:
        repeats = repeated(seen)
        recorded = {name: found for name, found in seen.items() if writer.committed[name].origin}
        return repeats, [*related(recorded), *worlds.values(), *({name, other} for name, (other, _) in repeats.items())]


def _left_out(episode: Episode, name: str, other: str, how: str) -> LeftOut:
    return LeftOut(name, f"{how} {other}", episode.length, fault=False, origin=episode.origin, source=episode.source)
