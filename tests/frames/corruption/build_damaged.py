"""Build stores from damaged copies of samples, in a process of its own: it may be killed by what it reads.

build_damaged.py SAMPLES SCRATCH REPORT LIMIT FIRST:END SUBJECT ...: REPORT gets a line of JSON when a try begins, and one with its outcome.
A subject is a folder of SAMPLES with `source`, in which the names that begin with "damaged" are to be damaged and "clean" are not.
LIMIT are the seconds after which a try counts as hanging, and is killed.
"""

import hashlib
import json
import resource
import shutil
import signal
import sys
import traceback
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from damage import damaged
from plain import READERS, SIZE, fitted

from foundation.errors import UserError
from frames import BuildSummary, FrameStore, build_store
from frames.curation.cleaning import Cleaning
from frames.looking.inspecting import verify

_ADDRESSES = 4 << 30
_MOST_MEMORY = 1 << 30
_LONGEST_REASON = 400


class Wrong(Exception):
    """What must not happen, has."""


@dataclass
class Try:
    """A sample, the folder to work in, and where random numbers come from."""

    sample: Path
    scratch: Path
    random: np.random.Generator
    others: list[bytes]

    @property
    def layout(self) -> str:
        return self.sample.name.replace(",", " ").split()[0]

    def damage(self, file: Path) -> str:
        kind, content = damaged(file.read_bytes(), self.others, self.random)
        file.write_bytes(content)
        return f"{file.name}: {kind}"


def build(source: Path, store: Path, **options: object) -> BuildSummary:
    return build_store(source, store, frame_size=(SIZE, SIZE), workers=1, **options)


def try_recordings(attempt: Try) -> tuple[str, str]:
    """Damage one file of a recording: it is left out with a reason, or gives what it gives to plain reading; its neighbour goes in."""
    source, hashed = attempt.scratch / "source", attempt.sample.name.endswith("hashed")
    shutil.copytree(attempt.sample / "source", source)
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.relative_to(source).parts[0].startswith("damaged"))
    cleaning = Cleaning(manifest=_manifest(attempt.scratch, files)) if hashed else None
    kind = attempt.damage(files[attempt.random.integers(len(files))])
    summary = build(source, attempt.scratch / "store", cleaning=cleaning)
    store = FrameStore(summary.path)
    if verify(store):
        raise Wrong(f"{kind}: the store does not verify: {verify(store)}")
    left_out = {entry.name: entry.reason for entry in summary.left_out}
    for name, reason in left_out.items():
        if not reason.strip() or "\n" in reason or len(reason) > _LONGEST_REASON or "memory" in reason.lower():
            raise Wrong(f"{kind}: {name} is left out for {reason!r}")
    taken = [episode.name for episode in store.episodes if episode.name.startswith("damaged")]
    for episode in store.episodes:
        _compare(attempt, kind, store, episode.name, source, left_out)
    if len(taken) == len(store.episodes):
        raise Wrong(f"{kind}: the clean recording is missing ({left_out})")
    if hashed and taken:
        raise Wrong(f"{kind}: taken, though the manifest has another hash")
    if not taken and not any(name.startswith("damaged") for name in left_out):
        raise Wrong(f"{kind}: neither taken nor left out")
    return kind, "taken" if not left_out else "left out in part" if taken else "left out"


def _compare(attempt: Try, kind: str, store: FrameStore, name: str, source: Path, left_out: dict[str, str]) -> None:
    """Hold an episode against plain reading of the same files."""
    (episode,) = (episode for episode in store.episodes if episode.name == name)
    try:
        frames, arrays = READERS[attempt.layout](source, name, left_out.keys())
    except Exception as error:
        raise Wrong(f"{kind}: {name} is taken, but does not read: {error!r}") from error
    expected = np.array([fitted(frame) for frame in frames])
    found = store.frames(np.arange(episode.first, episode.first + episode.length))
    if not np.array_equal(found, expected):
        raise Wrong(f"{kind}: {name} has frames that plain reading does not give ({found.shape}, {expected.shape})")
    for key, values in arrays.items():
        told = store.array(episode, key)
        if key == "reward" and np.ndim(values) == 0:
            told = told.sum()
        same = np.array_equal(told, values) if np.asarray(values).dtype.kind == "U" else np.allclose(told, values, equal_nan=True)
        if np.shape(told) != np.shape(values) or not same:
            raise Wrong(f"{kind}: {name} has another '{key}' than plain reading gives: {told}, not {values}")
    # a PNG has a checksum for each of its parts
    originals = [picture.tobytes() for picture in _plainly(attempt)] if attempt.sample.name == "pictures png" else []
    if originals and "another file" not in kind and not {frame.tobytes() for frame in found} <= set(originals):
        raise Wrong(f"{kind}: {name} has a picture that does not fit its checksum")


def _plainly(attempt: Try) -> list[np.ndarray]:
    read = READERS[attempt.layout]
    return [frame for name in ("clean", "damaged") for frame in read(attempt.sample / "source", name, ())[0]]


def _manifest(folder: Path, files: list[Path]) -> Path:
    lines = [f"{path.relative_to(folder)},{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    (folder / "manifest.csv").write_text("\n".join(["file,sha256", *lines, ""]))
    return folder / "manifest.csv"


def try_store(attempt: Try) -> tuple[str, str]:
    """Damage a finished store: it is refused, or named by verify, or gives what it gave, and a build does not go on with it."""
    path = attempt.scratch / "store"
    shutil.copytree(attempt.sample / "store", path)
    kind, original = attempt.damage(path / "data.mdb"), _everything(FrameStore(attempt.sample / "store"))
    outcome = _outcome(path, original, kind)
    with suppress(UserError):
        if not build(attempt.sample / "source", path).finished_before:
            raise Wrong(f"{kind}: built again over it")
    return kind, outcome


def try_append(attempt: Try) -> tuple[str, str]:
    """Append to a damaged store: no frame of it may change unnoticed."""
    path = attempt.scratch / "store"
    shutil.copytree(attempt.sample / "store", path)
    kind, original = attempt.damage(path / "data.mdb"), _everything(FrameStore(attempt.sample / "store"))
    try:
        build(attempt.sample / "more", path, append=True)
    except UserError as error:
        return kind, _message(kind, error)
    return kind, _outcome(path, original, kind)


def try_unfinished(attempt: Try) -> tuple[str, str]:
    """Damage what a killed build left: the next run refuses it, or finishes it, and verify names what is wrong."""
    working, path = attempt.scratch / "store.building", attempt.scratch / "store"
    shutil.copytree(attempt.sample / "store.building", working)
    kind, original = attempt.damage(working / "store" / "data.mdb"), _everything(FrameStore(attempt.sample / "store"))
    try:
        build(attempt.sample / "source", path)
    except UserError as error:
        return kind, _message(kind, error)
    return kind, _outcome(path, original, kind)


def _everything(store: FrameStore) -> dict[str, list[bytes]]:
    """Return all frames and arrays by episode."""
    return {
        episode.name: [
            store.frames(np.arange(episode.first, episode.first + episode.length)).tobytes(),
            *(store.array(episode, name).tobytes() for name in sorted(episode.arrays)),
        ]
        for episode in store.episodes
    }


def _outcome(path: Path, original: dict[str, list[bytes]], kind: str) -> str:
    try:
        store, found = FrameStore(path), None
        with suppress(UserError):
            found = _everything(store)
        if verify(store):
            return "named"
    except UserError as error:
        return _message(kind, error)
    if found is None or {name: found.get(name) for name in original} != original:
        raise Wrong(f"{kind}: wrong frames or arrays, and it verifies")
    return "intact"


def _message(kind: str, error: UserError) -> str:
    if not str(error).strip() or "\n" in str(error):
        raise Wrong(f"{kind}: refused with {str(error)!r}")
    return "refused"


_TRIES: dict[str, Callable[[Try], tuple[str, str]]] = {"store": try_store, "append": try_append, "unfinished": try_unfinished}


def judged(attempt: Try) -> dict[str, object]:
    """Try once; return the kind of damage with the outcome, or with what is wrong."""
    attempt.scratch.mkdir()
    # begin with a new peak of memory
    Path("/proc/self/clear_refs").write_text("5")
    try:
        kind, outcome = _TRIES.get(attempt.sample.name, try_recordings)(attempt)
        peak = _peak_memory()
        return {"kind": kind, "outcome": outcome} if peak < _MOST_MEMORY else {"wrong": f"{kind}: {peak:,} bytes of memory"}
    except Wrong as error:
        return {"wrong": str(error)}
    except Exception:
        return {"wrong": traceback.format_exc()}
    finally:
        shutil.rmtree(attempt.scratch)


def _peak_memory() -> int:
    """Return the most memory in bytes since the peak was cleared; getrusage may tell the peak of the process that began this one."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main(samples: str, scratch: str, report: str, limit: str, numbers: str, *subjects: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    first, end = map(int, numbers.split(":"))
    sources = [path for path in sorted(Path(samples).glob("*/source/**/*")) if path.is_file()]
    others = [path.read_bytes() for path in sources]
    with open(report, "a", buffering=1) as lines:
        for subject in subjects:
            for number in range(first, end):
                entry = {"subject": subject, "number": number}
                lines.write(json.dumps({**entry, "begins": True}) + "\n")
                random = np.random.default_rng([zlib.crc32(subject.encode()), number])
                signal.alarm(int(limit))
                found = judged(Try(Path(samples) / subject, Path(scratch) / f"{subject} {number}", random, others))
                signal.alarm(0)
                lines.write(json.dumps({**entry, **found}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
