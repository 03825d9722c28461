import errno
import os
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
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


def test_pictures_that_are_taken_for_thumbnails_are_named_in_a_line_a_folder(tmp_path, noise, write_video):
    source, films = tmp_path / "source", tmp_path / "source" / "films"
    write_video(films / "a.avi", noise(3))
    for picture in (source / "sheet.png", films / "1.png", films / "2.png"):
        cv2.imwrite(str(picture), noise(1)[0])
    summary = build_store(source, tmp_path / "store", frame_size=(16, 16))
    told = [("films (pictures)", 2, False), ("source (pictures)", 1, False)]
    assert [(entry.name, entry.frames, entry.fault) for entry in summary.left_out] == told
    assert {entry.reason for entry in summary.left_out} == {"taken for thumbnails: they lie beside or above other recordings"}
    assert summary.status == 0
    # they are no news, and told all the same
    cv2.imwrite(str(films / "3.png"), noise(1)[0])
    for append in (False, True):
        again = build_store(source, tmp_path / "store", frame_size=(16, 16), append=append)
        assert again.finished_before
        assert [entry.frames for entry in again.left_out] == [3, 1]
    write_video(films / "b.avi", noise(3, 1))
    build_store(source, tmp_path / "store", frame_size=(16, 16), append=True)
    assert [entry["frames"] for entry in FrameStore(tmp_path / "store").meta["left_out"]] == [3, 1]


def test_pictures_beside_what_gives_no_frames_are_no_thumbnails_of_it(tmp_path, noise, monkeypatch):
    stills = tmp_path / "source" / "stills"
    (stills / "closed").mkdir(parents=True)
    cv2.imwrite(str(stills / "a.png"), noise(1)[0])
    (stills / "gone.jsonl").write_text('{"mouse": {}, "keyboard": {}}\n')
    np.save(stills / "labels.npy", np.arange(1))
    np.save(stills / "objects.npy", np.array([{}]))
    (stills / "text.lmdb").write_bytes(b"text " * 2000)
    (stills / "text.h5").write_bytes(b"text")
    with lmdb.open(str(tmp_path / "others")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"label-0", b"tree")
    shutil.copy(tmp_path / "others" / "data.mdb", stills)
    deny(monkeypatch, "closed")
    summary = build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16))
    assert [(episode.name, episode.length) for episode in FrameStore(tmp_path / "store").episodes] == [("stills", 1)]
    assert {entry.name.removeprefix("stills/"): entry.fault for entry in summary.left_out} == {
        **dict.fromkeys(("closed", "gone.jsonl", "objects.npy", "text.h5", "text.lmdb"), True), "labels.npy": False, "data.mdb": False,
    }  # fmt: skip


def test_a_store_of_before_that_holds_such_pictures_does_not_say_that_it_left_them_out(tmp_path, noise, write_video, monkeypatch):
    write_video(tmp_path / "source" / "a.avi", noise(3))
    cv2.imwrite(str(tmp_path / "source" / "a.png"), noise(1)[0])
    with monkeypatch.context() as before:
        before.setattr("frames.readers.finding._thumbnailed", lambda found: set())
        build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16))
    assert len(FrameStore(tmp_path / "store").episodes) == 2
    for append in (False, True):
        assert build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16), append=append).left_out == []
    # another one leaves them out, and says so
    (entry,) = build_store(tmp_path / "source", tmp_path / "other", frame_size=(16, 16)).left_out
    assert (entry.name, entry.fault) == ("source (pictures)", False)


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
    deny(monkeypatch, "b")
    found = find_recordings(tmp_path)
    assert [recording.name for recording in found] == ["a/a.avi", "b"]
    with pytest.raises(BadRecording, match="the folder cannot be read"):
        next(iter(found[1].frames()))


def deny(monkeypatch, name: str) -> None:
    """Let folders of this name not be listed."""
    listed = os.scandir

    def scandir(path: str | int) -> object:
        if not isinstance(path, int) and os.path.basename(path) == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "no recordings found")])
def test_a_wrong_folder_says_what_was_looked_for(tmp_path, make, message):
    folder: Path = tmp_path / "recordings"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        find_recordings(folder)
