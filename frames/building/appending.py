"""What a finished store already has of the recordings of a source, and what an append may add to it."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from foundation.errors import UserError, first_names
from frames.action_columns import common_action_names
from frames.building.fitting import Fitting
from frames.labels import SEGMENTATION
from frames.readers import Recording
from frames.scenes.factors import FACTORS
from frames.storage.format import MASKS, ArrayInfo, Episode, LeftOut
from frames.store import FrameStore

_KEPT = ("factors", "made_of", "dropped")
"""What the record of scenes that were drawn, or of a merge, says of episodes that stay."""

WHOLE = {SEGMENTATION: "a segmentation", MASKS: "masks", FACTORS: "factors"}
"""What is read as one array of all frames, in words: it is of use where every episode has it, in one type and shape."""


def source_of(recording: Recording) -> str:
    """What an episode remembers as its source: the path, whatever folder the command runs in and whatever links lead there."""
    return os.path.realpath(recording.path)


def check_unchanged(store: FrameStore, recordings: Sequence[Recording]) -> None:
    """Refuse to pass a finished store for one of recordings that have come or changed since."""
    held = {episode.name: episode for episode in store.episodes}
    for recording in recordings:
        if recording.name in held and held[recording.name].origin != recording.origin:
            raise UserError(f"{store.path}: is finished, but {recording.name} has changed since; build into another store path")
    new = new_recordings(store, recordings)
    if new:
        more = f"{len(new)} recordings of the source are" if len(new) > 1 else f"{new[0].name} is"
        raise UserError(f"{store.path}: is finished, but {more} not in it; add with --append, or build into another store path")


def new_recordings(store: FrameStore, recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings that a store neither has nor left out as they are now.

    A name that it has from other files is among them: only decoding tells whether the frames are the same.
    """
    held = {(episode.name, episode.origin, episode.source) for episode in store.episodes}
    known = held | {(entry.name, entry.origin, entry.source) for entry in left_out_of(store)}
    return [recording for recording in recordings if (recording.name, recording.origin, source_of(recording)) not in known]


def check_fits(store: FrameStore, fitting: Fitting) -> None:
    """Refuse to append frames of another size, or resized in another way."""
    height, width, _ = store.frame_shape
    if (height, width) != tuple(fitting.size):
        size = f"its frames are {height}x{width}, not {fitting.size[0]}x{fitting.size[1]}"
        raise UserError(f"{store.path}: {size}; append with --frame-size {height} {width}")
    if store.meta["resize"] != fitting.resize:
        raise UserError(f"{store.path}: its frames are resized by '{store.meta['resize']}'; append with --resize {store.meta['resize']}")
    window = store.meta["plan"].get("window")
    if window != (None if fitting.window is None else list(fitting.window)):
        remedy = "without --window" if window is None else f"with --window {' '.join(map(str, window))}"
        raise UserError(f"{store.path}: its frames are of another part of the pictures; append {remedy}")


def check_alike(store: FrameStore, new: Sequence[Episode], remedy: str) -> None:
    """Refuse new episodes with which the store would lose what is of use only where all its episodes have it.

    That is its actions, and each array of `WHOLE`. Raises `UserError` that names what would be lost, and with which episodes.
    """
    acting = next((episode for episode in store.episodes if episode.ordered and episode.length > 1), None)
    if acting is not None and store.action_names is not None:
        others = [one for one in new if one.ordered and one.length > 1 and common_action_names([acting, one]) is None]
        if others:
            known = ", ".join(name.removeprefix("action.") for name in store.action_names)
            raise UserError(f"{store.path}: its actions ({known}) are not those of {_who(others)}, and would be lost; {remedy}")
    for array, words in WHOLE.items():
        kinds = {_kind(episode, array) for episode in store.episodes}
        others = [one for one in new if _kind(one, array) not in kinds]
        if len(kinds) == 1 and None not in kinds and others:
            held = f"{_who(others)} {'have' if len(others) > 1 else 'has'} {'none' if _kind(others[0], array) is None else 'another kind'}"
            played = array == SEGMENTATION and not others[0].origin
            raise UserError(f"{store.path}: has {words} of all its frames, and {held}; {'add --record segmentation' if played else remedy}")


def _kind(episode: Episode, array: str) -> tuple[str, tuple[int, ...], bool] | None:
    """Return the type of an array's entries, their shape, and whether each frame has one; None where the episode lacks it."""
    info = episode.arrays.get(array)
    return None if info is None else (info.dtype, info.shape[1:], info.shape[0] == episode.length)


def _who(episodes: Sequence[Episode]) -> str:
    names = first_names([episode.name for episode in episodes])
    return f"{len(episodes):,} recordings ({names})" if len(episodes) > 1 else names


def left_out_of(store: FrameStore) -> list[LeftOut]:
    return [LeftOut(**entry) for entry in store.meta["left_out"]]


def left_out_with(store: FrameStore, new: Sequence[LeftOut], tried: Collection[str] = ()) -> list[LeftOut]:
    """Return what a store left out and what is `new`, sorted by name: it takes the place of its name, and of all that was `tried` again."""
    names = {*tried, *(entry.name for entry in new)}
    return sorted([*(entry for entry in left_out_of(store) if entry.name not in names), *new], key=lambda entry: entry.name)


def appended_meta(store: FrameStore, plan: dict[str, Any], tried: Sequence[Recording], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Return what an append changes of a store's meta record: every plan stays in it, and what was left out before, unless tried again."""
    listed = left_out_with(store, left_out, [recording.name for recording in tried])
    return {
        **{name: store.meta[name] for name in _KEPT if name in store.meta},
        "plan": store.meta["plan"],
        "appended": [*store.meta["appended"], plan],
        "left_out": [asdict(entry) for entry in listed],
    }


def clash(recording: Recording, held: Episode, content: str, arrays: Mapping[str, ArrayInfo], frames: int) -> LeftOut:
    """Say why a recording does not go in under a name that the store has: it is the same, has changed, or the name is taken.

    `content` and `arrays` are what it holds now, but for the arrays that the store does without.
    """
    left_out = partial(LeftOut, recording.name, frames=frames, origin=recording.origin, source=source_of(recording))
    if (content, arrays) == (held.content, held.arrays):
        return left_out("is in the store already", fault=False)
    if source_of(recording) == held.source:
        reason = "has changed since it went into the store; build into another store path, or give what it is now another name"
    else:
        reason = f"the store has another recording of this name, from {Path(held.source)}; rename one of the folders or files"
    return left_out(reason)
