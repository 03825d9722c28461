"""Digits that move as Newton says, seen as recorded; pictures of them from files that are exactly what they announce."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from collecting.command import make
from foundation.errors import UserError
from frames import FrameStore, Labels, state_names
from frames.looking.inspecting import verify
from frames.scenes.building import build_moving_digits
from frames.scenes.digit_pictures import drawn_digits, read_digits, read_idx
from frames.scenes.moving_digits import SIZE, motion

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes()


def handwritten(count: int = 40, size: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that are all different, none darker than 1 anywhere, and labels."""
    random = np.random.default_rng(0)
    return random.integers(1, 256, (count, size, size), np.uint8), np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pictures, labels = handwritten()
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(pictures)))
    (tmp_path / "mnist" / LABELS).write_bytes(idx(labels))
    return tmp_path / "mnist"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    path = tmp_path_factory.mktemp("digits") / "store"
    build_moving_digits(path, frames=950, episode_frames=100, seed=3, val=0.3, test=0.2)
    return FrameStore(path)


@pytest.mark.parametrize("seed", range(3))
def test_motion_is_that_of_a_loop_that_reflects_at_the_walls(seed: int) -> None:
    random = np.random.default_rng(seed)
    room = np.array([36.0, 20.0])
    place, speed = random.uniform(0, 1, (2, 2)) * room, random.uniform(-7, 7, (2, 2))
    found = motion(place, speed, room, 400)
    place, speed = place.copy(), speed.copy()
    for frame in range(400):
        np.testing.assert_allclose(found.positions[frame], place, atol=1e-9)
        inside = (place > 1e-9) & (place < room - 1e-9)
        np.testing.assert_array_equal(found.speeds[frame][inside], speed[inside])
        for digit in range(2):
            for axis in range(2):
                place[digit, axis] += speed[digit, axis]
                if not 0 <= place[digit, axis] <= room[axis]:
                    wall = 0.0 if place[digit, axis] < 0 else room[axis]
                    place[digit, axis] = 2 * wall - place[digit, axis]
                    speed[digit, axis] *= -1


def test_what_is_recorded_is_what_is_seen(store: FrameStore) -> None:
    digits = drawn_digits()
    names = [f"{axis}{kind}_{digit}" for axis in ("row", "column") for kind in ("", "_speed") for digit in (0, 1)]
    assert state_names(store) == sorted(names)
    states = Labels(store, {"state": {}}).at(store.indices("all"))["state"][:, 0]
    columns = {name: states[:, number] for number, name in enumerate(state_names(store))}
    for number, episode in enumerate(store.episodes):
        chosen = np.random.default_rng([3, number]).choice(digits.of_split(episode.split), 2)
        assert (store.array(episode, "observation.labels") == digits.labels[chosen]).all()
        for frame in (0, episode.length // 2, episode.length - 1):
            at = episode.first + frame
            corners = [(int(np.rint(columns[f"row_{digit}"][at])), int(np.rint(columns[f"column_{digit}"][at]))) for digit in (0, 1)]
            assert np.array_equal(store.frames([at])[0], drawn(digits.pictures[chosen], corners)), f"{episode.name}, frame {frame}"


def drawn(pictures: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    grey = np.zeros((SIZE, SIZE), np.uint8)
    for picture, (row, column) in zip(pictures, corners, strict=True):
        for y in range(len(picture)):
            for x in range(len(picture)):
                grey[row + y, column + x] = max(grey[row + y, column + x], picture[y, x])
    return np.stack([grey] * 3, axis=2)


def test_every_digit_keeps_its_speed_and_stays_inside(store: FrameStore) -> None:
    for episode in store.episodes:
        for digit in (0, 1):
            speeds = np.stack([store.array(episode, f"observation.state.{axis}_speed_{digit}") for axis in ("row", "column")], 1)
            places = np.stack([store.array(episode, f"observation.state.{axis}_{digit}") for axis in ("row", "column")], 1)
            size = np.linalg.norm(speeds, axis=1)
            assert 2 <= size[0] <= 5
            np.testing.assert_allclose(size, size[0], rtol=1e-6)
            assert 0 <= places.min() <= places.max() <= 36
            moved = np.abs(np.diff(places, axis=0))
            assert (moved <= np.abs(speeds[0]) + 1e-4).all()


def test_splits_show_different_pictures_of_all_digits(store: FrameStore) -> None:
    digits = drawn_digits()
    parts = [digits.of_split(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(parts)) == list(range(len(digits.pictures)))
    looks = [{picture.tobytes() for picture in digits.pictures[part]} for part in parts]
    assert len(set.union(*looks)) == sum(len(look) for look in looks)
    assert all(set(digits.labels[part]) == set(range(10)) for part in parts)
    assert {episode.split for episode in store.episodes} == {"train", "val", "test"}


def test_the_same_seed_gives_the_same_store_and_another_seed_others(store: FrameStore, tmp_path: Path) -> None:
    build_moving_digits(tmp_path / "same", frames=950, episode_frames=100, seed=3, val=0.3, test=0.2)
    build_moving_digits(tmp_path / "other", frames=950, episode_frames=100, seed=4, val=0.3, test=0.2)
    same, other = FrameStore(tmp_path / "same"), FrameStore(tmp_path / "other")
    assert same.fingerprint == store.fingerprint
    assert not {episode.content for episode in other.episodes} & {episode.content for episode in store.episodes}
    assert verify(same) == []
    assert [episode.length for episode in store.episodes] == [100] * 9 + [50]
    with pytest.raises(UserError, match="made with seed = 3, not 5"):
        build_moving_digits(tmp_path / "same", frames=950, episode_frames=100, seed=5, val=0.3, test=0.2)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_s_files_are_read_packed_or_not(tmp_path: Path, packed: bool) -> None:
    pictures, labels = handwritten()
    for name, values in ((IMAGES, pictures), (LABELS, labels)):
        content = idx(values)
        (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    digits = read_digits(tmp_path)
    assert np.array_equal(digits.pictures, pictures)
    assert np.array_equal(digits.labels, labels)
    assert np.array_equal(digits.of_split("val"), [0, 10, 20, 30])


def test_the_command_moves_the_user_s_own_digits(files: Path, tmp_path: Path) -> None:
    words = ["build", "--source", "MovingDigits", "--digits", str(files), "--store", str(tmp_path / "store"), "--debug"]
    assert make(words) == 0
    store = FrameStore(tmp_path / "store")
    assert store.meta["plan"]["digits"] == read_digits(files).digest
    # no pixel of theirs is black
    assert ((store.frames([0, 150])[..., 0] > 0).sum((1, 2)) > 28 * 28 - 1).all()
    (files / LABELS).unlink()
    unlabelled = build_moving_digits(tmp_path / "unlabelled", digits=files, frames=20)
    assert "observation.labels" not in FrameStore(unlabelled.path).episodes[0].arrays
    with pytest.raises(UserError, match="is for MovingDigits"):
        make(["build", "--source", "Tetrominoes", "--digits", str(files), "--store", str(tmp_path / "other")])


def damaged() -> dict[str, tuple[str, bytes, str]]:
    """Files by what is wrong with them: name, content, and what is said of it."""
    pictures, labels = handwritten()
    good, packed = idx(pictures), gzip.compress(idx(pictures))
    return {
        "empty": (IMAGES, b"", "begins with nothing"),
        "another type": (IMAGES, b"\0\0\x0d\x03" + good[4:], "begins with 00000d03"),
        "labels as pictures": (IMAGES, idx(labels), "begins with 00000801"),
        "cut": (IMAGES, good[:-1], "holds 31,359"),
        "longer": (IMAGES, good + b"\0", "holds more"),
        "huge": (IMAGES, good[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 28) + good[16:], "values are read|are read of such a file"),
        "none": (IMAGES, good[:4] + struct.pack(">3I", 0, 28, 28), "announces 0 values"),
        "large pictures": (IMAGES, idx(np.ones((10, 60, 60), np.uint8)), "each from 4 to 48 pixels"),
        "few": (IMAGES, idx(pictures[:3]), "10 pictures or more"),
        "no gzip": (f"{IMAGES}.gz", good, "no gzip file"),
        "cut gzip": (f"{IMAGES}.gz", packed[:-100], "ends too early|announces"),
        "gzip without its checksum": (f"{IMAGES}.gz", packed[:-8], "ends too early"),
        "gzip with another checksum": (f"{IMAGES}.gz", packed[:-8] + b"\1\2\3\4" + packed[-4:], "is damaged"),
        "gzip with more behind": (f"{IMAGES}.gz", packed + b"more", "something follows its end"),
        "bomb": (f"{IMAGES}.gz", gzip.compress(good + bytes(50_000_000)), "holds more"),
    }


@pytest.mark.parametrize("kind", damaged())
def test_a_file_that_is_not_what_it_announces_is_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    name, content, said = damaged()[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as told:
        read_digits(tmp_path)
    assert str(tmp_path / name) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_bomb_is_unpacked_no_further_than_its_header_announces(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(idx(handwritten()[0]) + bytes(60_000_000)))
    tracemalloc.start()
    with pytest.raises(UserError, match="holds more"):
        read_idx(path, 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2_000_000


def test_labels_of_other_pictures_and_folders_without_files_are_refused(files: Path, tmp_path: Path) -> None:
    (files / LABELS).write_bytes(idx(np.arange(39) % 10))
    with pytest.raises(UserError, match="39 labels up to 9 for 40 pictures"):
        read_digits(files)
    (files / LABELS).write_bytes(idx(np.arange(40)))
    with pytest.raises(UserError, match="labels up to 39"):
        read_digits(files)
    with pytest.raises(UserError, match=f"no {IMAGES}"):
        read_digits(tmp_path)
