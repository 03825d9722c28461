import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from frames.readers import BadRecording
from frames.readers.npz import MOST_BYTES, open_npz


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def header(shape: str, descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def read_all(path):
    with open_npz(path) as content:
        return content.read(content.headers)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_saved(tmp_path, save):
    saved = {
        "reward": np.linspace(0, 1, 7),
        "action$camera": np.asfortranarray(np.arange(14, dtype=np.float32).reshape(7, 2)),
        "action$place": np.array(["none", "dirt", "é"]),
        "observation$big": np.arange(5, dtype=">i2"),
        "flags": np.array([True, False]),
        "none": np.empty((0, 3)),
    }
    save(tmp_path / "a.npz", **saved)
    read = read_all(tmp_path / "a.npz")
    assert read.keys() == saved.keys()
    for key, values in saved.items():
        assert read[key].dtype == values.dtype.newbyteorder("=")
        assert read[key].flags.c_contiguous
        assert np.array_equal(read[key], values)


def test_headers_tell_shapes_without_decompressing(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", reward=np.zeros(9), frames=np.zeros((9, 64, 64, 3), np.uint8))
    with open_npz(tmp_path / "a.npz") as content:
        assert content.headers["reward"].shape == (9,)
        assert content.headers["frames"].nbytes == 9 * 64 * 64 * 3


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (npy(header("(3,)"), bytes(16)), r"has \d+ bytes where its shape \(3,\) needs"),
        (npy(header("(3,)"), bytes(40)), r"has \d+ bytes where its shape \(3,\) needs"),
        (npy(header("(-3,)"), bytes(24)), r"announces the shape \(-3,\)"),
        (npy(header("(3,)", "'|O'"), bytes(24)), "'reward' is of type object"),
        (npy(header("(3,)", "'<c16'"), bytes(48)), "'reward' is of type complex128"),
        (npy(header("(3,)", "[('a', '<f8')]"), bytes(24)), "neither numbers nor text"),
        (npy(header("(3,)", "'<U0'")), "neither numbers nor text"),
        (npy(header("(3,)") + " " * 5000, bytes(24)), "cannot be read"),
        (npy("(" * 2000), "cannot be read"),
        (npy("__import__('os').getcwd()"), "cannot be read"),
        (npy(header("(3,)"), bytes(24), version=b"\x03\x00"), r"npy version 3\.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", r"npy version 2\.0"),
        (b"no array at all", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_members_that_are_not_what_they_announce_are_refused(tmp_path, member, reason):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reward.npy", member)
    with pytest.raises(BadRecording, match=reason):
        read_all(tmp_path / "a.npz")


def test_a_zip_bomb_is_refused_without_decompressing_it(tmp_path):
    bomb = np.zeros((MOST_BYTES >> 3) + 1)
    np.savez_compressed(tmp_path / "a.npz", reward=np.zeros(3), bomb=bomb)
    del bomb
    tracemalloc.start()
    with pytest.raises(BadRecording, match=f"announces {MOST_BYTES + 32:,} bytes of arrays, more than {MOST_BYTES:,}"):
        read_all(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_a_bomb_behind_a_directory_that_lies_is_cut_where_its_header_says(tmp_path):
    announced = npy(header("(3,)"), bytes(24))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reward.npy", announced + bytes(64 << 20))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    # the directory's entry: the decompressed size at 24
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, len(announced))
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadRecording, match="CRC"):
        read_all(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_a_name_given_twice_is_refused(tmp_path):
    array = npy(header("(1,)"), bytes(8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("reward.npy", array)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("reward.npy", array)
    with pytest.raises(BadRecording, match="'reward' is there twice"):
        read_all(tmp_path / "a.npz")


def test_encrypted_members_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", reward=np.zeros(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BadRecording, match="'reward' is encrypted"):
        read_all(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_cannot_be_bounded_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("reward.npy", npy(header("(1,)"), bytes(8)))
    with pytest.raises(BadRecording, match="is compressed by method"):
        read_all(tmp_path / "a.npz")


def test_other_files_in_the_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("reward.txt", "1 2 3")
    with pytest.raises(BadRecording, match=r"'reward\.txt' is no \.npy array"):
        read_all(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip " * 100])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BadRecording, match=r"a\.npz cannot be read"):
        read_all(tmp_path / "a.npz")


def test_no_damaged_byte_gets_through(tmp_path):
    saved = {"reward": np.arange(6.0), "action$jump": np.arange(6) % 2}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **saved)
    content = buffer.getvalue()
    random = np.random.default_rng(0)
    outcomes = set()
    for place in random.integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.integers(8)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            read = read_all(tmp_path / "a.npz")
        except BadRecording:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            # a flip in a date, or in the name of an array
            assert all(any(np.array_equal(values, known) for known in saved.values()) for values in read.values())
    assert outcomes == {"read", "refused"}
