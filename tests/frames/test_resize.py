import numpy as np
import pytest

from foundation.errors import UserError
from frames import resize_frames
from frames.resize import resize_kinds


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


@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_what_pixels_show_is_resized_without_mixing(mode):
    kinds = np.zeros((2, 6, 12), np.uint8)
    kinds[:, :, :6], kinds[:, :, 6:] = 7, 200
    resized = resize_kinds(kinds, (3, 4), mode)
    assert resized.shape == (2, 3, 4)
    assert resized[1].tolist() == [[7, 7, 200, 200]] * 3
    # where the frame has its centre, so have they
    columns = np.tile(np.arange(12, dtype=np.uint8), (1, 6, 1))
    assert resize_kinds(columns, (6, 6), mode)[0, 0].tolist() == ([1, 3, 5, 7, 9, 11] if mode == "squash" else [3, 4, 5, 6, 7, 8])
    assert np.array_equal(resize_kinds(columns, (6, 12), mode), columns)
