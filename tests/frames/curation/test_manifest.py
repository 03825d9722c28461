import hashlib
from pathlib import Path

import pytest

from foundation.errors import UserError
from frames.curation.manifest import Entry, Row, damage, entries, groups, read_manifest
from frames.readers import find_recordings
from frames.readers.pictures import PictureFolder
from frames.readers.recording import Recording
from frames.readers.videos import VideoFile


@pytest.fixture
def write_manifest(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "manifest.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def video(path: Path, name: str = "one.mp4") -> Recording:
    return VideoFile(name, path / name, [path / name])


def test_what_a_line_says_is_found_through_the_recordings_file(write_manifest, tmp_path):
    (tmp_path / "films").mkdir()
    digest = "AB" * 32
    columns = "licence,file,drop_lead,drop_tail,split,group,frames,sha256,bytes"
    rows = read_manifest(write_manifest(f"\ufeff{columns}\r\nfree,films/é one.mp4,20,4,test,caves,300,{digest},12\r\n"))
    found = entries(rows, [video(tmp_path / "films", "é one.mp4"), video(tmp_path)])
    assert list(found) == ["é one.mp4"]
    entry = found["é one.mp4"]
    assert (entry.drop_lead, entry.drop_tail, entry.split, entry.groups, entry.frames) == (20, 4, "test", {"caves"}, 300)
    assert entry.rows[tmp_path / "films" / "é one.mp4"].sha256 == digest.lower()


def test_empty_cells_and_absent_columns_say_nothing(write_manifest, tmp_path):
    rows = read_manifest(write_manifest("file,drop_lead,frames,sha256,split\none.mp4,,,,\n\n"))
    assert entries(rows, [video(tmp_path)]) == {"one.mp4": Entry()}


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("name,frames\na,1\n", 1, "no column 'file'"),
        ("", 1, "no column 'file'"),
        ("file,frames,frames\na,1,2\n", 1, "two columns 'frames'"),
        ("file,drop_lead\na.mp4,1\nb.mp4,-4\n", 3, "'drop_lead' is '-4'; it must be a whole number"),
        ("file,frames\na.mp4,1.5\n", 2, "'frames' is '1.5'"),
        ("file,bytes\na.mp4,²\n", 2, "'bytes' is '²'"),
        ("file,split\na.mp4,tset\n", 2, "did you mean 'test'"),
        ("file,sha256\na.mp4,abc\n", 2, "64 hexadecimal digits"),
        ("file,frames\na.mp4,1\n ,2\n", 3, "'file' is empty"),
        ("file,frames\na.mp4,1\n./a.mp4,2\n", 3, "a second time"),
        ("file\na,b.mp4\n", 2, "more cells"),
        ('file\n"a.mp4\n', 2, "is not CSV"),
        (b"file\na.mp4\n\xff\xfe.mp4\n", 3, "not UTF-8"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_its_number(write_manifest, content, line, reason):
    with pytest.raises(UserError) as caught:
        read_manifest(write_manifest(content))
    assert f"manifest.csv, line {line}: " in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: the manifest cannot be read"):
        read_manifest(tmp_path / "none.csv")


@pytest.mark.parametrize("named", ["run", "run/recording.mp4"])
def test_a_minerl_recording_is_named_by_its_folder_or_its_video(write_manifest, write_minerl, noise, tmp_path, named):
    write_minerl(tmp_path / "run", noise(3), 2)
    rows = read_manifest(write_manifest(f"file,drop_lead\n{named},1\n"))
    (entry,) = entries(rows, find_recordings(tmp_path)).values()
    assert entry.drop_lead == 1


def test_a_folder_has_no_hash(write_manifest, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="run is a folder, which has no sha256"):
        read_manifest(write_manifest(f"file,sha256\nrun,{'0' * 64}\n"))


def test_pictures_of_a_folder_are_one_recording_and_add_up(write_manifest, tmp_path):
    stills = PictureFolder("stills", tmp_path, [tmp_path / "a.png", tmp_path / "b.png"])
    both = "file,frames,split,group\na.png,1,train,a\nb.png,1,test,b\n"
    (entry,) = entries(read_manifest(write_manifest(both)), [stills]).values()
    assert (entry.frames, entry.split, entry.groups) == (2, "test", {"a", "b"})
    (entry,) = entries(read_manifest(write_manifest("file,frames\na.png,1\n")), [stills]).values()
    assert entry.frames is None


def test_recordings_of_a_group_are_told_together():
    found = {"a": Entry(groups=frozenset("xy")), "b": Entry(groups=frozenset("y")), "c": Entry(groups=frozenset("z")), "d": Entry()}
    assert groups(found) == [{"a", "b"}]


def test_a_flipped_bit_and_a_lost_byte_are_damage(tmp_path):
    content = b"a video's bytes"
    file = tmp_path / "one.mp4"
    file.write_bytes(content)
    hashed, sized = Row(sha256=hashlib.sha256(content).hexdigest(), bytes=999), Row(bytes=len(content))
    assert damage(file, hashed) is None
    assert damage(file, sized) is None
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    assert "has another sha256" in damage(file, hashed)
    file.write_bytes(content[:-1])
    assert "has another sha256" in damage(file, hashed)
    assert damage(file, sized) == "has 14 bytes, the manifest says 15"


def test_the_real_manifest_names_every_recording(real_recordings):
    found = find_recordings(real_recordings)
    named = entries(read_manifest(real_recordings / "manifest.csv"), found)
    assert named.keys() == {recording.name for recording in found}
    assert all(entry.frames and entry.split and entry.groups and entry.rows for entry in named.values())
