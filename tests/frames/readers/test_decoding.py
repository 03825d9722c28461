import numpy as np
import pytest

from frames.readers import BadRecording
from frames.readers.decoding import read_video


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_videos_decode_to_what_was_recorded_in_rgb(tmp_path, noise, write_video, suffix):
    frames = noise(9, size=64)
    path = write_video(tmp_path / f"a film: 100 % café{suffix}", frames)
    assert np.array_equal(np.array(list(read_video(path))), frames)


def test_a_gif_decodes_frame_by_frame(tmp_path, write_video):
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    frames[:] = np.arange(6)[:, None, None, None] * 40
    decoded = np.array(list(read_video(write_video(tmp_path / "a.gif", frames))))
    # the encoder dithers
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - frames.mean(axis=(1, 2, 3))).max() <= 15


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.gif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_video_is_refused(tmp_path, noise, write_video, name, share):
    path = write_video(tmp_path / name, noise(12, size=32))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadRecording):
        list(read_video(path))


def test_a_text_file_called_mp4_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("no video " * 1000)
    with pytest.raises(BadRecording):
        list(read_video(path))
