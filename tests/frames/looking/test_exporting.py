"""A piece of a store, taken elsewhere: the frames asked for, the arrays that belong to them, whole or not at all."""

import json

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames.looking.exporting import export

NAME = "a world/épisode 1 [x].mp4"


@pytest.fixture
def store(write_store, noise):
    """Return a store of two episodes, of 600 frames in three blocks and of 40."""
    frames = np.repeat(np.arange(600) % 250, 32 * 32 * 3).reshape(600, 32, 32, 3).astype(np.uint8)
    arrays = {
        "reward": np.arange(599.0),
        "action.camera": np.arange(1198, dtype=np.float32).reshape(599, 2),
        "action.craft": np.array(["none", "dirt"] * 300)[:599],
        "observation.compass": np.arange(600),
    }
    return write_store({NAME: frames, "b": noise(40, size=32)}, {NAME: arrays})


def test_an_episode_comes_back_from_npz_as_it_is_stored(store, tmp_path):
    export(store, NAME, tmp_path / "out" / "épisode 1.npz")
    with np.load(tmp_path / "out" / "épisode 1.npz", allow_pickle=False) as content:
        assert sorted(content.files) == sorted(["frames", "frames_per_second", *store.episodes[0].arrays])
        assert np.array_equal(content["frames"], store.frames(np.arange(600)))
        assert content["frames_per_second"] == 20
        for name in store.episodes[0].arrays:
            assert np.array_equal(content[name], store.array(NAME, name))
            assert content[name].dtype == store.array(NAME, name).dtype


def test_a_piece_has_the_ticks_between_its_frames(store, tmp_path):
    export(store, NAME, tmp_path / "a.npz", start=250, frames=20)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert np.array_equal(content["frames"], store.frames(np.arange(250, 270)))
        assert content["reward"].tolist() == list(range(250, 269))
        assert content["action.camera"].shape == (19, 2)
        assert content["observation.compass"].tolist() == list(range(250, 270))


def test_observations_without_the_last_frame_s_end_where_they_end(write_store, noise, tmp_path):
    store = write_store({"a": noise(10)}, {"a": {"observation.compass": np.arange(9)}})
    export(store, "a", tmp_path / "a.npz", start=4, frames=2)
    export(store, "a", tmp_path / "b.npz", start=4)
    assert np.load(tmp_path / "a.npz")["observation.compass"].tolist() == [4, 5]
    assert np.load(tmp_path / "b.npz")["observation.compass"].tolist() == [4, 5, 6, 7, 8]


def test_a_clip_shows_the_frames_asked_for_enlarged_at_the_episode_s_rate(store, tmp_path):
    written = export(store, NAME, tmp_path / "clip.mp4", start=100, frames=30, scale=2)
    assert written.startswith("30 frames at 20 frames/s")
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    shades = [float(capture.read()[1].mean()) for _ in range(30)]
    assert shades == pytest.approx(list(range(100, 130)), abs=6)
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 64
    assert not capture.read()[0]


def test_the_last_episode_can_be_taken_as_a_gif(store, tmp_path):
    export(store, "b", tmp_path / "b.gif", start=30, scale=1)
    read, animation = cv2.imreadanimation(str(tmp_path / "b.gif"))
    assert read
    assert len(animation.frames) == 10
    assert set(animation.durations) == {50}


def test_pictures_without_order_play_at_one_a_second(write_store, noise, tmp_path):
    store = write_store({"stills": noise(3)}, unordered=["stills"])
    assert "at 1 frames/s" in export(store, "stills", tmp_path / "stills.mp4")
    assert cv2.VideoCapture(str(tmp_path / "stills.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize(
    ("name", "file", "options", "message"),
    [
        ("a world/episode 1", "a.npz", {}, "did you mean 'a world/épisode 1"),
        ("1 [x]", "a.npz", {}, "did you mean 'a world/épisode 1"),
        ("9" * 30, "a.npz", {}, "inspect --episodes 2 lists them"),
        ("b", "a.npz", {"start": 40}, "it has the frames 0 to 39"),
        ("b", "a.npz", {"start": -1}, "it has the frames 0 to 39"),
        ("b", "a.npz", {"start": 35, "frames": 6}, "ask for 1 to 5"),
        ("b", "a.mp4", {"frames": 0}, "ask for 1 to 40"),
        ("b", "a.avi", {}, r"'\.avi'"),
        ("b", "a.mp4", {"scale": 0}, "at least 1"),
        ("b", "a.npz", {"scale": 2}, "leave it out"),
        (NAME, "a.gif", {"scale": 30}, "does not fit in memory"),
    ],
)
def test_what_cannot_be_taken_is_said_before_anything_is_written(store, tmp_path, name, file, options, message):
    with pytest.raises(UserError, match=message):
        export(store, name, tmp_path / "out" / file, **options)
    assert not (tmp_path / "out").exists()


def test_a_damaged_store_leaves_the_earlier_file_and_no_half_of_a_new_one(store, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "a.npz"
    path.write_text(json.dumps("earlier"))
    whole = type(store).frames

    def damaged(self, indices):
        if max(indices) > 500:
            raise UserError("damaged")
        return whole(self, indices)

    monkeypatch.setattr(type(store), "frames", damaged)
    with pytest.raises(UserError, match="damaged"):
        export(store, NAME, path)
    assert json.loads(path.read_text()) == "earlier"
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
