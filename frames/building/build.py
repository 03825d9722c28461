"""From a folder of recordings to a frame store, or to more of one."""

import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from foundation.errors import UserError, first_names
from foundation.progress import say
from frames.building.appending import (
    appended_meta,
    check_alike,
    check_fits,
    check_unchanged,
    left_out_of,
    left_out_with,
    new_recordings,
    source_of,
)
from frames.building.fitting import Fitting, Window
from frames.building.intake import take_in
from frames.curation import manifest
from frames.curation.cleaning import Cleaning, cleaned
from frames.curation.duplicates import related, repeated
from frames.curation.splits import BY_RECORDING, assign_splits, known_split, merged_groups, split_conflicts
from frames.readers import Recording, find_all
from frames.resize import ResizeMode
from frames.storage.format import Episode, LeftOut, Split
from frames.storage.sweeping import remove_leftovers
from frames.storage.writer import Splitter, StoreWriter, finished_store, store_writer
from frames.store import FrameStore

_APART = "build them into another store path: merge makes one store of both, and names what is lost"


@dataclass(frozen=True)
class BuildSummary:
    """What a build did: `decoded` recordings are new, `kept` ones are there from an earlier run, `held` were in the store before an append.

    `left_out` names what did not go in, `trimmed` counts the frames left out of episodes by "lead", "tail" and "frozen".
    `finished_before` says that there was nothing to do.
    """

    path: Path
    frames: int
    episodes: int
    decoded: int
    kept: int
    left_out: list[LeftOut]
    seconds: float
    finished_before: bool = False
    trimmed: dict[str, int] = field(default_factory=dict)
    held: int = 0

    @property
    def status(self) -> int:
        """The exit status of a command: 1 when this run could not read something."""
        return 1 if any(entry.fault for entry in self.left_out) and not self.finished_before else 0


def build_store(
    source: str | Path,
    path: str | Path,
    *,
    layout: str | None = None,
    frame_size: tuple[int, int] = (64, 64),
    resize: ResizeMode = "squash",
    window: Window | None = None,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
    limit: int | None = None,
    workers: int | None = None,
    cleaning: Cleaning | None = None,
    append: bool = False,
) -> BuildSummary:
    """Build the store at `path` from the recordings in and below the folder `source`, or add those that it lacks with `append`.

    Only `layout` is looked for when it is given. Frames are resized to `frame_size` = (H, W), or only what is inside `window` = (first row,
    first column, height, width) of each, and "observation.masks" with them. `split` puts every recording into one
    split, or takes what the source says and draws for the others ("by-recording", with the shares `val` and `test`). `limit` takes only
    the first recordings, `workers` is how many are decoded at a time, `cleaning` says what to leave out of them. An interrupted build
    goes on where it stopped. Raises `UserError` when nothing can be read, the disk is full, or something else is at `path`.
    """
    source, path, began, cleaning = Path(source), Path(path), time.monotonic(), cleaning or Cleaning()
    fitting = Fitting(frame_size, resize, window)
    assign_splits([], split, val, test)
    found = find_all(source, layout)
    recordings, groups = _cleaned(found.recordings[:limit], cleaning, source)
    # of what the store has too: whether the source names a val does not change with what is new in it
    said = {recording.name: recording.split for recording in recordings if recording.split is not None}
    plan = {
        "source": str(source.resolve()),
        "layout": layout,
        "frame_size": list(frame_size),
        "resize": resize,
        "window": None if window is None else list(window),
        "split": [split, val, test],
        "limit": limit,
        "cleaning": cleaning.plan(),
    }
    store = FrameStore(path) if append else finished_store(path, plan)
    # a store of before may hold them
    held = {(episode.name, episode.source) for episode in store.episodes} if store else set()
    strays = [_stray(pictures) for pictures in found.strays if (pictures.name, source_of(pictures)) not in held]
    if store is not None:
        if append:
            check_fits(store, fitting)
            remove_leftovers(path)
            recordings = new_recordings(store, recordings)
        else:
            check_unchanged(store, recordings)
        if not (append and recordings):
            return replace(finished_summary(store), left_out=left_out_with(store, strays))
    threads = workers or os.cpu_count() or 1
    with _stoppable(), store_writer(path, plan, (*frame_size, 3), threads=threads, onto=store) as writer:
        build = _Build(source, writer, recordings, store, plan, fitting, cleaning, said, strays)
        return build.run(threads, partial(assign_splits, split=split, val=val, test=test), groups, began)


def finished_summary(store: FrameStore) -> BuildSummary:
    """The summary of a build that had nothing left to do."""
    return BuildSummary(
        store.path, len(store), len(store.episodes), 0, len(store.episodes), left_out_of(store), 0.0, True, store.meta["trimmed"]
    )


def close_summary(
    writer: StoreWriter,
    kept: int,
    left_out: list[LeftOut],
    began: float,
    splitter: Splitter,
    resize: str,
    meta: Mapping[str, Any] = MappingProxyType({}),
    held: Collection[str] = (),
) -> BuildSummary:
    """Finish the store, with what else its record is to hold, and say what was done: the episodes `held` were there before an append."""
    decoded = len(writer.committed) - kept
    writer.finish(splitter, {"resize": resize, "left_out": [asdict(entry) for entry in left_out], **meta})
    return _summary(writer.path, decoded, kept - len(held), left_out, began, len(held))


def _summary(path: Path, decoded: int, kept: int, left_out: list[LeftOut], began: float, held: int = 0) -> BuildSummary:
    store, seconds = FrameStore(path), time.monotonic() - began
    return BuildSummary(path, len(store), len(store.episodes), decoded, kept, left_out, seconds, trimmed=store.meta["trimmed"], held=held)


def _cleaned(recordings: list[Recording], cleaning: Cleaning, source: Path) -> tuple[list[Recording], list[set[str]]]:
    """Return the recordings as they are to be read, and the groups that a manifest puts together."""
    paths: dict[str, Path] = {}
    for recording in recordings:
        if recording.name in paths:
            where = f"{paths[recording.name]} and {recording.path}"
            raise UserError(f"two recordings are called {recording.name}: {where}; rename one, or move it into another folder")
        paths[recording.name] = recording.path
    entries = {}
    if cleaning.manifest is not None:
        rows = manifest.read_manifest(cleaning.manifest)
        entries = manifest.entries(rows, recordings)
        if unnamed := len(recordings) - len(entries):
            say(f"{unnamed:,} of {len(recordings):,} recordings are not in {cleaning.manifest}; they are taken without its word")
        if missing := manifest.missing(rows, source):
            say(f"{len(missing):,} of {len(rows):,} lines of {cleaning.manifest} name what is not there: {first_names(missing)}")
    everywhere = cleaning.drop_lead or cleaning.drop_tail or cleaning.thin_frozen is not None
    read = [
        cleaned(recording, entries.get(recording.name), cleaning) if everywhere or recording.name in entries else recording
        for recording in recordings
    ]
    return read, manifest.groups(entries)


@dataclass
class _Build:
    """One run of a build, or of an append to `store`, with the working folder in hand.

    `recordings` are those to be added, `said` the splits that the source says of all it holds, `strays` what is left out unread.
    """

    source: Path
    writer: StoreWriter
    recordings: Sequence[Recording]
    store: FrameStore | None
    plan: dict[str, Any]
    fitting: Fitting
    cleaning: Cleaning
    said: Mapping[str, Split]
    strays: Sequence[LeftOut]

    def __post_init__(self) -> None:
        self.before = {episode.name: episode for episode in self.store.episodes} if self.store else {}

    def run(self, threads: int, splitter: Any, groups: Sequence[set[str]], began: float) -> BuildSummary:
        """Decode what is missing and finish the store."""
        writer = self.writer
        if writer.complete:
            return self._publish(began)
        kept = self._keep()
        merged = self.store is not None and "made_of" in self.store.meta
        left_out = take_in(writer, self.recordings, self.before, self.fitting, threads, merged)
        if not writer.committed.keys() - self.before and (self.store is None or any(entry.fault for entry in left_out)):
            writer.abandon()
            reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in left_out[:3]) + ("; ..." if len(left_out) > 3 else "")
            raise UserError(f"{self.source}: none of {len(self.recordings)} recordings could be read ({reasons})")
        decoded = len(writer.committed.keys() - self.before) - kept
        repeats, alike = self._compare()
        without = {} if self.cleaning.keep_duplicates else repeats
        self._check_alike(without)
        left_out = sorted([*left_out, *self._named(without), *self.strays], key=lambda entry: entry.name)
        groups, given = [*groups, *alike], self._given(without)
        stay = {name: episode.split for name, episode in self.before.items()}
        self._tell_conflicts(split_conflicts(merged_groups(writer.committed, groups), {**given, **stay}))
        writer.finish(partial(splitter, groups=groups, given=given, kept=stay), self._meta(left_out), without)
        return _summary(writer.path, decoded, kept, left_out, began, len(self.before))

    def _publish(self, began: float) -> BuildSummary:
        """Put into place what an earlier run had finished but for that."""
        writer = self.writer
        writer.publish()
        store = FrameStore(writer.path)
        if self.store is None:
            check_unchanged(store, self.recordings)
        elif new := new_recordings(store, self.recordings):
            say(f"{len(new):,} recordings have come since this append began; run the same command again to add them")
        return _summary(writer.path, 0, len(writer.committed.keys() - self.before), left_out_of(store), began, len(self.before))

    def _keep(self) -> int:
        """Drop what an earlier run stored of recordings that have changed or gone; return how many stay."""
        found = {recording.name: recording.origin for recording in self.recordings}
        committed = self.writer.committed
        for name in committed.keys() - self.before:
            if found.get(name) != committed[name].origin:
                self.writer.discard(name)
        kept = len(committed.keys() - self.before)
        if kept:
            say(f"{kept:,} of {len(self.recordings):,} recordings are there from an earlier run")
        return kept

    def _compare(self) -> tuple[dict[str, tuple[str, str]], list[set[str]]]:
        """Return the new episodes that repeat another, as name -> (other, how), and the sets that show the same."""
        with self.writer.signatures() as seen:
            found = repeated(seen)
            # what the store has of a new, longer recording too: it is no repeat of a new one, and stays
            return _repeats_of_new(found, self.before), [*related(seen), *({name, other} for name, (other, _) in found.items())]

    def _check_alike(self, without: Collection[str]) -> None:
        """Leave the store as it is, and nothing beside it, where what is new would cost it its actions or masks."""
        if self.store is None:
            return
        new = sorted(self.writer.committed.keys() - self.before.keys() - set(without))
        try:
            check_alike(self.store, [self.writer.committed[name] for name in new], _APART)
        except UserError:
            self.writer.abandon()
            raise

    def _given(self, without: Mapping[str, Any]) -> Mapping[str, Split]:
        """Return the splits that are said: one of all recordings that go in, or each by its source."""
        if self.plan["split"][0] != BY_RECORDING:
            return dict.fromkeys(self.writer.committed.keys() - self.before.keys() - without.keys(), known_split(self.plan["split"][0]))
        return self.said

    def _tell_conflicts(self, conflicts: Sequence[Sequence[str]]) -> None:
        if not conflicts:
            return
        sets = f"{len(conflicts):,} sets of recordings that show the same" if len(conflicts) > 1 else "recordings that show the same"
        names, split = ", ".join(conflicts[0][:3]), self.plan["split"][0]
        if split != BY_RECORDING:
            say(f"{sets} are in different splits now: {names}; what is in a store stays, and --split {split} puts the new ones there")
        else:
            say(f"{sets} are meant for different splits: {names}; test goes before val before train, what is in a store stays")

    def _named(self, repeats: Mapping[str, tuple[str, str]]) -> list[LeftOut]:
        committed = self.writer.committed
        found = [(committed[name], f"{how} {other}") for name, (other, how) in repeats.items()]
        return [LeftOut(one.name, reason, one.length, fault=False, origin=one.origin, source=one.source) for one, reason in found]

    def _meta(self, left_out: Sequence[LeftOut]) -> dict[str, Any]:
        if self.store is None:
            meta: dict[str, Any] = {"left_out": [asdict(entry) for entry in left_out]}
        else:
            meta = appended_meta(self.store, self.plan, self.recordings, left_out)
        return {"resize": self.fitting.resize, **meta}


def _stray(pictures: Recording) -> LeftOut:
    """Say of all pictures of a folder that they are not read."""
    # a recording may be called as its folder is
    name, reason = f"{pictures.name} (pictures)", "taken for thumbnails: they lie beside or above other recordings"
    return LeftOut(name, reason, len(pictures.files), fault=False, origin=pictures.origin, source=source_of(pictures))


def _repeats_of_new(repeats: Mapping[str, tuple[str, str]], before: Mapping[str, Episode]) -> dict[str, tuple[str, str]]:
    """Turn repeats around where the store's own episode would give way to a new one: what is in a store stays there."""
    turned = {other: name for name, (other, how) in repeats.items() if name in before and other not in before and how == "the same as"}
    found = {name: (turned.get(other, other), how) for name, (other, how) in repeats.items() if name not in before}
    return {**found, **{name: (other, "the same as") for name, other in turned.items()}}


@contextmanager
def _stoppable() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, and say that nothing is lost."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if listens else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say("stopped; run the same command again: it goes on where it stopped")
        raise
    finally:
        if listens:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
