"""Plain videos: one file, one episode."""

from collections.abc import Iterator

import numpy as np

from frames.readers.decoding import VIDEO_SUFFIXES, count_frames, read_rate, read_video
from frames.readers.recording import Folder, Layout, Recording


class VideoFile(Recording):
    """A video of any size, without actions."""

    def expected_frames(self) -> int | None:
        return count_frames(self.path)

    def frames_per_second(self) -> float:
        return read_rate(self.path)

    def frames(self) -> Iterator[np.ndarray]:
        return read_video(self.path)


def find(folder: Folder) -> list[Recording]:
    return [VideoFile(folder.name(path.name), path, [path]) for path in folder.with_suffix(*VIDEO_SUFFIXES)]


VIDEOS = Layout("videos", f"videos ({', '.join(VIDEO_SUFFIXES)})", find)
