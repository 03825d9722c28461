import os
from pathlib import Path

import cv2
import pytest

from foundation.errors import UserError
from frames.readers import find_recordings


def test_recordings_are_found_at_any_depth_and_named_by_their_path(tmp_path, noise, write_minerl, write_video):
    write_minerl(tmp_path / "MineRLTreechop-v0" / "v3_a", noise(5), ticks=4)
    write_minerl(tmp_path / "MineRLNavigate-v0" / "v3_b", noise(5), ticks=4)
    write_video(tmp_path / "films" / "deep" / "c.avi", noise(3))
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no recording")
    os.symlink(tmp_path, tmp_path / "films" / "loop")
    names = [recording.name for recording in find_recordings(tmp_path)]
    assert names == ["MineRLNavigate-v0/v3_b", "MineRLTreechop-v0/v3_a", "films/deep/c.avi"]


def test_a_thumbnail_above_the_recordings_is_no_recording(tmp_path, noise, write_video):
    write_video(tmp_path / "films" / "a.avi", noise(3))
    for folder in (tmp_path, tmp_path / "films"):
        cv2.imwrite(str(folder / "thumbnail.png"), noise(1)[0])
    assert [recording.name for recording in find_recordings(tmp_path)] == ["films/a.avi"]


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "no recordings found")])
def test_a_wrong_folder_says_what_was_looked_for(tmp_path, make, message):
    folder: Path = tmp_path / "recordings"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        find_recordings(folder)
