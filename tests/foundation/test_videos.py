"""A video is whole or absent, and shows what was given."""

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from foundation.videos import write_video


def shades(count: int, height: int, width: int) -> np.ndarray:
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(20, 220, count).astype(np.uint8)[:, None, None]
    return frames


def test_the_frames_come_back_in_order_in_rgb_and_at_their_rate(tmp_path):
    path = tmp_path / "films: 100 % café" / "a b.mp4"
    write_video(path, iter(shades(12, 64, 64)), 7.5)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(7.5)
    decoded = [capture.read()[1] for _ in range(12)]
    assert [round(float(frame[..., 2].mean()), -1) for frame in decoded] == pytest.approx(np.linspace(20, 220, 12), abs=10)
    assert max(float(frame[..., 0].mean()) for frame in decoded) < 20
    assert [file.name for file in path.parent.iterdir()] == ["a b.mp4"]


def test_no_row_or_column_of_odd_frames_is_lost(tmp_path):
    write_video(tmp_path / "odd.mp4", shades(3, 33, 45), 20)
    capture = cv2.VideoCapture(str(tmp_path / "odd.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)) == (34, 46)


def test_a_failure_half_way_leaves_the_earlier_video(tmp_path):
    def failing():
        yield from shades(3, 32, 32)
        raise ValueError("no more")

    path = tmp_path / "film.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(ValueError, match="no more"):
        write_video(path, failing(), 20)
    assert path.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_video_that_the_disk_cut_short_is_told_and_removed(tmp_path, monkeypatch):
    def cut(writer):
        writer.release()
        part = next(tmp_path.iterdir())
        part.write_bytes(part.read_bytes()[:200])

    class Cutting:
        """A writer whose file ends early, as on a full disk."""

        def __init__(self, *arguments):
            self.real = real(*arguments)

        def isOpened(self):
            return self.real.isOpened()

        def write(self, frame):
            self.real.write(frame)

        def release(self):
            cut(self.real)

        fourcc = cv2.VideoWriter.fourcc

    real = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Cutting)
    with pytest.raises(UserError, match="is incomplete"):
        write_video(tmp_path / "film.mp4", shades(3, 32, 32), 20)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_video_s_place_is_named(tmp_path):
    (tmp_path / "film.mp4").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_video(tmp_path / "film.mp4", shades(2, 8, 8), 20)
