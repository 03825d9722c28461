"""Plain videos: one file, one episode."""

from collections.abc import Iterator

import numpy as np

from frames.readers.decoding import VIDEO_SUFFIXES, count_frames, read_rate, read_video
from frames.readers.recording import SPLIT_FOLDERS, Folder, Layout, Recording
from frames.storage.format import Split


class VideoFile(Recording):
    """A video of any size, without actions."""

    def expected_frames(self) -> int | None:
        return count_frames(self.path)

    def frames_per_second(self) -> float:
        return read_rate(self.path)

    def frames(self) -> Iterator[np.ndarray]:
        return read_video(self.path)


def find(folder: Folder) -> list[Recording]:
    split = None if folder.path == folder.source else _split(folder.path.name)
    return [VideoFile(folder.name(path.name), path, [path], split=split) for path in folder.with_suffix(*VIDEO_SUFFIXES)]


def _split(folder: str) -> Split | None:
    """Return the split that a folder below the source is named after: train, or train-seq100 as Moving MNIST's."""
    return SPLIT_FOLDERS.get(folder.lower().partition("-seq")[0])


VIDEOS = Layout("videos", f"videos ({', '.join(VIDEO_SUFFIXES)})", find)
