"""Stores of drawn scenes: pictures with masks and factors, the same for the same seed, and what a store tells of both."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from collecting.command import make
from encoders import make_encoder
from foundation.errors import UserError
from frames import FrameStore, sample_frames
from frames.curation.splits import assign_splits
from frames.scenes.building import build_scenes
from frames.scenes.factors import factors_at, guessed_factors, known_factors, told_factors
from frames.scenes.masks import mask_array, masks_at
from frames.scenes.tetrominoes import TETROMINOES
from frames.storage.writer import store_writer


@pytest.fixture(scope="module")
def tetrominoes(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    path = tmp_path_factory.mktemp("scenes") / "store"
    build_scenes("Tetrominoes", path, frames=95, episode_frames=20, seed=3, val=0.3)
    return FrameStore(path)


def write_store(path: Path, episodes: dict[str, dict[str, np.ndarray]], size: int = 8, **meta: object) -> FrameStore:
    """Write a store of black frames with arrays beside them."""
    with store_writer(path, {"source": "a test"}, (size, size, 3)) as writer:
        for name, arrays in episodes.items():
            count = len(next(iter(arrays.values())))
            frames = np.full((count, size, size, 3), len(writer.committed), np.uint8)
            writer.add(name, frames, source=name, frames_per_second=1.0, arrays=lambda arrays=arrays: arrays, ordered=False)
        writer.finish(assign_splits, {"resize": "squash", "left_out": [], **meta})
    return FrameStore(path)


def test_a_store_of_scenes_has_pictures_masks_and_factors_as_drawn(tetrominoes: FrameStore) -> None:
    assert (len(tetrominoes), tetrominoes.frame_shape, len(tetrominoes.episodes)) == (95, (35, 35, 3), 5)
    assert {episode.split for episode in tetrominoes.episodes} == {"train", "val"}
    assert not any(episode.ordered for episode in tetrominoes.episodes)
    for number, episode in enumerate(tetrominoes.episodes):
        drawn = TETROMINOES.draw(np.random.default_rng([3, number]), episode.length)
        indices = np.arange(episode.first, episode.first + episode.length)
        assert np.array_equal(tetrominoes.frames(indices), drawn.images)
        assert np.array_equal(tetrominoes.array(episode, "observation.masks"), drawn.masks)
        assert np.array_equal(tetrominoes.array(episode, "observation.factors"), drawn.factors)
    assert known_factors(tetrominoes) == list(TETROMINOES.factors)
    assert sample_frames(tetrominoes, "train", 8, 0).shape == (8, 35, 35, 3)


def test_an_interrupted_build_goes_on_to_the_same_store(tetrominoes: FrameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def stopped(random: np.random.Generator, count: int) -> object:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(count)
        return TETROMINOES.draw(random, count)

    options = {"frames": 95, "episode_frames": 20, "seed": 3, "val": 0.3}
    with monkeypatch.context() as patched:
        patched.setattr("frames.scenes.building.KINDS", {"Tetrominoes": TETROMINOES.__class__(**{**vars(TETROMINOES), "draw": stopped})})
        with pytest.raises(KeyboardInterrupt):
            build_scenes("Tetrominoes", tmp_path / "store", **options)
    summary = build_scenes("Tetrominoes", tmp_path / "store", **options)
    assert (summary.kept, summary.decoded) == (2, 3)
    assert FrameStore(tmp_path / "store").fingerprint == tetrominoes.fingerprint
    assert build_scenes("Tetrominoes", tmp_path / "store", **options).finished_before
    with pytest.raises(UserError, match="made with seed = 3, not 4"):
        build_scenes("Tetrominoes", tmp_path / "store", **{**options, "seed": 4})


@pytest.mark.parametrize("name", ["Tetrominoes", "MultiDSprites"])
def test_the_command_draws_and_says_what_comes_next(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert make(["build", "--source", name, "--store", str(tmp_path / "store"), "--debug"]) == 0
    printed, store = capsys.readouterr().out, FrameStore(tmp_path / "store")
    assert "300 frames of 6 episodes" in printed
    (preset,) = re.findall(r"train_encoder.py (\S+) --store \S+ --run RUN\n", printed)
    assert make_encoder(preset).frame_shape == store.frame_shape
    assert json.loads(json.dumps(store.meta["factors"]))[0]["name"] == "x"
    assert masks_at(store, store.indices("val")).masks.shape[2:] == store.frame_shape[:2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frame-size", "64", "64"], "--frame-size is for recordings and environments, and Tetrominoes are drawn in their own size"),
        (["--append"], "--append is for recordings and environments, and Tetrominoes are drawn as a store of their own"),
        (["--layout", "videos"], "--layout is for recordings, and Tetrominoes are drawn: leave it out"),
        (["--frames", "0"], "give 1 or more"),
        (["--seed", "-1"], "a seed of 0 or more"),
        (["--env.server", "voxel"], "--env.server is for environments"),
    ],
)
def test_what_does_not_go_with_scenes_is_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        make(["build", "--source", "Tetrominoes", "--store", str(tmp_path / "store"), *options])
    assert not list(tmp_path.iterdir())


def test_masks_come_in_the_order_asked_for_and_in_the_frames_size(tmp_path: Path) -> None:
    """Episodes with masks of 3 and of 2 things, larger than the frames: the middle of each pixel decides."""
    random = np.random.default_rng(0)
    owners = {"a": random.integers(3, size=(4, 16, 24)), "b": random.integers(2, size=(3, 16, 24))}
    arrays = {
        name: {"observation.masks": np.uint8(255) * (of[:, None] == np.arange(of.max() + 1)[:, None, None])[..., None]}
        for name, of in owners.items()
    }
    store = write_store(tmp_path / "store", arrays)
    found = masks_at(store, np.array([6, 0, 3]))
    assert (mask_array(store), found.masks.shape, found.has_background) == ("observation.masks", (3, 3, 8, 8), True)
    for row, (name, number) in enumerate([("b", 2), ("a", 0), ("a", 3)]):
        expected = [[owners[name][number, 2 * r + 1, 3 * c + 1] for c in range(8)] for r in range(8)]
        assert found.labels[row].tolist() == expected
        assert np.array_equal(found.foreground[row], np.array(expected) > 0)
    assert np.array_equal(found.objects, found.masks[:, 1:])


def test_the_kinds_of_a_segmentation_are_masks_without_a_background(tmp_path: Path) -> None:
    kinds = np.array([0, 7, 255], np.uint8)[np.random.default_rng(0).integers(3, size=(5, 8, 8))]
    store = write_store(tmp_path / "store", {"a": {"observation.segmentation": kinds}})
    found = masks_at(store, np.arange(5))
    assert (mask_array(store), found.has_background, found.masks.shape) == ("observation.segmentation", False, (5, 3, 8, 8))
    assert np.array_equal(np.array([0, 7, 255])[found.labels], kinds)
    assert found.foreground.all()
    assert np.array_equal(found.objects, found.masks)
    grouped = masks_at(store, np.arange(5), [[255, 0], [3]])
    expected = [np.isin(kinds, [0, 255]), np.zeros_like(kinds, bool), kinds == 7]
    assert np.array_equal(grouped.masks, np.stack(expected, 1))


def test_a_store_without_masks_says_how_to_get_them(clip_store: Path) -> None:
    store = FrameStore(clip_store)
    assert mask_array(store) is None
    with pytest.raises(UserError, match="has no masks of objects; build it from Tetrominoes"):
        masks_at(store, np.arange(3))


def test_what_factors_are_is_known_told_or_guessed(tmp_path: Path, noise: Callable) -> None:
    values = np.zeros((4, 2, 9), np.float32)
    values[:, 1] = np.random.default_rng(0).random((4, 9))
    values[:, 1, 5] = (0, 1, 2, 1)
    values[:, :, 8] = 1
    store = write_store(tmp_path / "one", {"clevr6_test.h5/test/000000": {"observation.factors": values}})
    assert np.array_equal(factors_at(store, np.array([2, 0])), values[[2, 0]])
    named = {factor.name: factor for factor in known_factors(store) or []}
    assert (named["rotation"].period, named["rotation"].columns, named["shape"].is_class) == (360.0, (3,), True)
    assert known_factors(write_store(tmp_path / "two", {"scenes.h5/test/000000": {"observation.factors": values}})) is None
    guessed = guessed_factors(values[:, 1])
    assert [factor.columns for factor in guessed] == [(column,) for column in range(8)]
    assert [factor.is_class for factor in guessed] == [False] * 5 + [True] + [False] * 2
    told = told_factors(["x:number", "-", "kind:class", "turn:6.28"], 4, "--dci.factors")
    assert [(factor.name, factor.columns, factor.is_class, factor.period) for factor in told] == [
        ("x", (0,), False, None),
        ("kind", (2,), True, None),
        ("turn", (3,), False, 6.28),
    ]
    with pytest.raises(UserError, match=r"--dci.factors: 1 words for 4 columns"):
        told_factors(["x:number"], 4, "--dci.factors")
    with pytest.raises(UserError, match=r"--dci.factors x:clas: .*class"):
        told_factors(["x:clas"], 1, "--dci.factors")
