"""A piece of a store for use elsewhere: a clip to watch, or an episode's frames and arrays as NumPy's."""

import zipfile
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import cv2
import numpy as np

from foundation.errors import UserError
from foundation.files import atomic_write, write_atomically
from foundation.progress import Advance, progress_bar
from foundation.videos import write_video
from frames.looking.inspecting import frames_at_once
from frames.storage.format import Episode
from frames.store import FrameStore

SUFFIXES = (".mp4", ".gif", ".npz")
_SHOWN_HEIGHT = 256
_MOST_GIF_BYTES = 512 << 20
_STILLS_A_SECOND = 1.0


def export(store: FrameStore, name: str, path: str | Path, *, start: int = 0, frames: int | None = None, scale: int | None = None) -> str:
    """Write the frames `start` to `start + frames` of an episode (all, if not given) to `path`; return what was written, as a line.

    mp4 and gif play at the episode's own rate, pictures without order at one a second; every pixel is enlarged `scale` times, to about
    256 rows if not given. npz holds `frames` uint8 (N, H, W, 3), `frames_per_second` and the per-step arrays by their names, as stored:
    rewards and actions have N-1 entries. It loads with `allow_pickle=False`. The file is whole or absent. Raises `UserError` for an
    unknown episode, a range outside it, an ending we do not write and a disk that is full.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown format '{suffix}'; use a name that ends in {', '.join(SUFFIXES)}")
    episode = find_episode(store, name)
    count = _range(episode, start, frames)
    if suffix == ".npz":
        if scale is not None:
            raise UserError("--scale enlarges clips; an npz holds the frames as they are stored: leave it out")
        return _write_npz(store, episode, path, start, count)
    enlarged = max(1, round(_SHOWN_HEIGHT / store.frame_shape[0])) if scale is None else scale
    if enlarged < 1:
        raise UserError(f"a scale of {scale}: must be at least 1")
    rate = episode.frames_per_second if episode.ordered else _STILLS_A_SECOND
    if suffix == ".gif":
        return _write_gif(store, episode, path, start, count, enlarged, rate)
    # browsers play VP9, which takes its time to encode
    with progress_bar("encoding", count, "frames") as advance:
        codec = write_video(path, _enlarged(store, episode, start, count, enlarged, advance), rate)
    return f"{count:,} frames at {rate:g} frames/s, {codec}"


def find_episode(store: FrameStore, name: str) -> Episode:
    """Return an episode by its name; raise `UserError` with the nearest name where there is none."""
    for episode in store.episodes:
        if episode.name == name:
            return episode
    names = [episode.name for episode in store.episodes]
    close = [known for known in names if name in known] or get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"inspect --episodes {len(names)} lists them"
    raise UserError(f"{store.path}: no episode {name!r}: {hint}")


def _range(episode: Episode, start: int, frames: int | None) -> int:
    """Return how many frames to write; raise `UserError` when they do not lie in the episode."""
    if not 0 <= start < episode.length:
        raise UserError(f"frame {start} of {episode.name!r}: it has the frames 0 to {episode.length - 1}")
    count = episode.length - start if frames is None else frames
    if not 1 <= count <= episode.length - start:
        raise UserError(f"{count} frames from frame {start} of {episode.name!r}: ask for 1 to {episode.length - start}")
    return count


def _enlarged(store: FrameStore, episode: Episode, start: int, count: int, scale: int, advance: Advance) -> Iterator[np.ndarray]:
    for block in _blocks(store, episode, start, count):
        for frame in block:
            yield frame.repeat(scale, axis=0).repeat(scale, axis=1)
            advance()


def _blocks(store: FrameStore, episode: Episode, start: int, count: int) -> Iterator[np.ndarray]:
    """Yield frames uint8 (N, H, W, 3), a few at a time: an episode may be longer than memory."""
    first, end = episode.first + start, episode.first + start + count
    block = frames_at_once(store)
    for at in range(first, end, block):
        yield store.frames(np.arange(at, min(at + block, end)))


def _write_gif(store: FrameStore, episode: Episode, path: Path, start: int, count: int, scale: int, rate: float) -> str:
    if count * int(np.prod(store.frame_shape)) * scale**2 > _MOST_GIF_BYTES:
        raise UserError(f"{path}: a gif of {count:,} frames does not fit in memory; ask for fewer --frames, or for an mp4")
    animation = cv2.Animation()
    frames = store.frames(np.arange(count) + episode.first + start)[..., ::-1]
    animation.frames = list(np.ascontiguousarray(frames.repeat(scale, axis=1).repeat(scale, axis=2)))
    animation.durations = [round(1000 / rate)] * count
    _, encoded = cv2.imencodeanimation(".gif", animation)
    write_atomically(path, encoded.tobytes())
    return f"{count:,} frames at {rate:g} frames/s"


def _write_npz(store: FrameStore, episode: Episode, path: Path, start: int, count: int) -> str:
    """Write the members one after the other, the frames block by block, uncompressed as `numpy.savez` does."""
    arrays = {name: _part(store.array(episode, name), name, episode, start, count) for name in episode.arrays}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with archive.open("frames.npy", "w", force_zip64=True) as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *store.frame_shape)}
            np.lib.format.write_array_header_1_0(member, header)
            for block in _blocks(store, episode, start, count):
                member.write(block.data)
        for name, values in {"frames_per_second": np.float64(episode.frames_per_second), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
    return f"{count:,} frames and {len(arrays)} arrays"


def _part(values: np.ndarray, name: str, episode: Episode, start: int, count: int) -> np.ndarray:
    """Cut the entries of the frames `start` to `start + count`: an entry a frame for observations, one a tick between two frames else."""
    per_frame = len(values) == episode.length or name.startswith("observation")
    return values[start : start + count - (0 if per_frame else 1)]
