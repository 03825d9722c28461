import errno
import os
from pathlib import Path

import cv2
import pytest

from foundation.errors import UserError
from frames import FrameStore, build_store
from frames.looking.inspecting import contact_sheet
from frames.readers import BadRecording, find_recordings


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


def test_a_store_and_its_contact_sheet_among_the_pictures_are_no_recordings(tmp_path, noise):
    cv2.imwrite(str(tmp_path / "a.png"), noise(1)[0])
    found = find_recordings(tmp_path)
    build_store(tmp_path, tmp_path / "store", frame_size=(16, 16))
    contact_sheet(FrameStore(tmp_path / "store"), tmp_path / "store.png")
    assert find_recordings(tmp_path) == found


def test_a_folder_whose_name_ends_like_that_of_an_unfinished_store_is_looked_into(tmp_path, noise, write_video):
    write_video(tmp_path / "castle.building" / "a.avi", noise(3))
    write_video(tmp_path / "store.building" / "b.avi", noise(3))
    (tmp_path / "store.building" / ".lock").touch()
    assert [recording.name for recording in find_recordings(tmp_path)] == ["castle.building/a.avi"]


def test_a_folder_that_cannot_be_listed_is_named_with_the_reason(tmp_path, noise, write_video, monkeypatch):
    write_video(tmp_path / "a" / "a.avi", noise(3))
    write_video(tmp_path / "b" / "b.avi", noise(3))
    listed = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_recordings(tmp_path)
    assert [recording.name for recording in found] == ["a/a.avi", "b"]
    with pytest.raises(BadRecording, match="the folder cannot be read"):
        next(iter(found[1].frames()))


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "no recordings found")])
def test_a_wrong_folder_says_what_was_looked_for(tmp_path, make, message):
    folder: Path = tmp_path / "recordings"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        find_recordings(folder)
