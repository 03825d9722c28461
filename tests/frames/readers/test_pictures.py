import cv2
import numpy as np

from frames.readers import find_recordings


def test_a_folder_of_pictures_is_one_unordered_recording(tmp_path, noise):
    frames = noise(4)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame[..., ::-1])
    (tmp_path / "2b.png").write_bytes(b"no picture")
    (tmp_path / "2c.png").write_bytes(b"")
    (recording,) = find_recordings(tmp_path)
    assert not recording.ordered
    assert np.array_equal(np.array(list(recording.frames())), frames)
    assert [name for name, _ in recording.skipped] == [f"{tmp_path.name}/2b.png", f"{tmp_path.name}/2c.png"]
