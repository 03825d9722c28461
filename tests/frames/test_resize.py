import numpy as np
import pytest

from foundation.errors import UserError
from frames import resize_frames


def test_shrinking_averages_areas():
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[0, :2, :2] = [[[40, 0, 0], [80, 0, 0]], [[120, 0, 0], [160, 0, 0]]]
    resized = resize_frames(frames, (2, 2))
    assert resized[0, 0, 0].tolist() == [100, 0, 0]
    assert resized[0, 1:].max() == 0


def test_frames_that_fit_are_not_touched(noise):
    frames = noise(3)
    assert resize_frames(frames, (16, 16), "crop") is frames


def test_crop_keeps_the_centre_and_the_aspect_ratio():
    frames = np.zeros((1, 36, 64, 3), np.uint8)
    frames[:, :, 14:50] = 200
    assert (resize_frames(frames, (18, 18), "crop") == 200).all()
    assert resize_frames(frames, (18, 18), "squash").min() == 0


def test_small_pictures_grow_smoothly():
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[:, :, 1] = 255
    row = resize_frames(frames, (8, 8))[0, 0, :, 0]
    assert (np.diff(row.astype(int)) >= 0).all()
    assert len(set(row.tolist())) > 2


def test_an_unknown_mode_names_the_nearest(noise):
    with pytest.raises(UserError, match="did you mean 'crop'"):
        resize_frames(noise(1), (8, 8), "crob")
