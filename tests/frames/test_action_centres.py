import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from frames import FrameStore, record
from frames.action_centres import VECTOR, action_centres, cluster, recorded_vectors

KINDS = 5


class Grey(gymnasium.Env):
    """A world that is grey whatever is done in it, for 100 ticks."""

    def __init__(self, **actions: spaces.Space) -> None:
        self.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
        self.action_space = spaces.Dict(actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick = 0
        return np.full((8, 8, 3), int(self.np_random.integers(256)), np.uint8), {}

    def step(self, action):
        self.tick += 1
        return np.full((8, 8, 3), self.tick, np.uint8), 0.0, self.tick >= 100, False, {}


def vector_world() -> Grey:
    return Grey(vector=spaces.Box(-1.05, 1.05, (64,), np.float32))


def blobs(seed: int = 0, each: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return points around five places of 64 numbers, and the places; the first place has the most."""
    random = np.random.default_rng(seed)
    places = random.uniform(-1, 1, (KINDS, 64)).astype(np.float32)
    kinds = np.repeat(np.arange(KINDS), [3 * each, each, each, each, each])
    return places[kinds] + random.normal(0, 0.01, (len(kinds), 64)).astype(np.float32), places


def nearest(vectors: np.ndarray, places: np.ndarray) -> list[int]:
    return [int(np.argmin(((places - vector) ** 2).sum(1))) for vector in vectors]


def test_every_kind_of_action_gets_one_centre_and_the_commonest_comes_first():
    points, places = blobs()
    found = nearest(cluster(points, KINDS, seed=0).vectors, places)
    assert sorted(found) == list(range(KINDS))
    assert found[0] == 0


def test_every_centre_is_an_action_that_was_recorded():
    points, _ = blobs()
    recorded = {point.tobytes() for point in points}
    centres = cluster(points, 12, seed=3).vectors
    assert all(vector.tobytes() in recorded for vector in centres)
    assert len({vector.tobytes() for vector in centres}) == 12


def test_as_many_centres_as_distinct_actions_are_those_actions():
    points = np.eye(6, dtype=np.float32)
    centres = cluster(np.repeat(points, 4, axis=0), 6, seed=0).vectors
    assert {vector.tobytes() for vector in centres} == {point.tobytes() for point in points}


def test_the_same_seed_gives_the_same_hash():
    points, _ = blobs()
    assert cluster(points, 7, seed=1).sha256 == cluster(points, 7, seed=1).sha256
    assert cluster(points, 7, seed=1).sha256 != cluster(points, 8, seed=1).sha256


def test_more_centres_than_distinct_actions_are_refused():
    with pytest.raises(UserError, match="7 actions were asked for, but it has 6 distinct ones"):
        cluster(np.eye(6, dtype=np.float32), 7, seed=0)


def test_a_value_that_is_no_number_is_named():
    with pytest.raises(UserError, match="no number"):
        cluster(np.full((9, 4), np.nan, np.float32), 2, seed=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("actions") / "store"
    record(vector_world, None, path, frames=240, episode_frames=40, frame_size=(8, 8))
    return path


def test_a_stores_actions_are_clustered_once_and_kept_beside_it(store, monkeypatch):
    first = action_centres(store, 4)
    (kept,) = store.parent.glob("store.actions-4-0-*.npz")
    assert FrameStore(store).identity[:12] in kept.name
    monkeypatch.setattr("frames.action_centres.cluster", None)
    assert action_centres(store, 4).sha256 == first.sha256


def test_vectors_of_the_same_frames_in_another_split_are_found_anew(tmp_path):
    options = {"frames": 80, "episode_frames": 20, "frame_size": (8, 8)}
    path = tmp_path / "store"
    record(vector_world, None, path, split="train", **options)
    action_centres(path, 4)
    before = FrameStore(path)
    shutil.rmtree(path)
    record(vector_world, None, path, val=0.5, **options)
    store = FrameStore(path)
    assert store.fingerprint == before.fingerprint
    (kept,) = tmp_path.glob("store.actions-4-0-*.npz")
    validated = next(episode for episode in store.episodes if episode.split == "val")
    foreign = store.array(validated, VECTOR)[:4]
    trained = {vector.tobytes() for vector in recorded_vectors(store)}
    # as a store of before there were identities has them: the name tells the frames alone
    old = tmp_path / f"store.actions-4-0-{store.fingerprint[:12]}.npz"
    for stale in (kept, old):
        np.savez(stale, vectors=foreign)
        assert {vector.tobytes() for vector in action_centres(path, 4).vectors} <= trained


def test_vectors_that_were_kept_by_the_frames_alone_still_serve(store):
    chosen = recorded_vectors(FrameStore(store))[:7]
    np.savez(store.with_name(f"store.actions-7-0-{FrameStore(store).fingerprint[:12]}.npz"), vectors=chosen)
    assert np.array_equal(action_centres(store, 7).vectors, chosen)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"\x93NUMPY"])
def test_a_damaged_cache_is_made_again(store, content):
    first = action_centres(store, 3)
    (kept,) = store.parent.glob("store.actions-3-0-*.npz")
    kept.write_bytes(content)
    assert action_centres(store, 3).sha256 == first.sha256
    assert kept.stat().st_size > len(content)


def test_a_pickle_in_place_of_the_cache_is_not_opened(store):
    first = action_centres(store, 5)
    (kept,) = store.parent.glob("store.actions-5-0-*.npz")
    np.savez(kept, vectors=np.array([{"not": "numbers"}] * 5, object), allow_pickle=True)
    assert action_centres(store, 5).sha256 == first.sha256


def test_a_store_that_cannot_be_written_beside_is_used_without_a_cache(store, monkeypatch, capsys):
    def refuse(path):
        raise UserError(f"{path}: cannot be written (Read-only file system)")

    monkeypatch.setattr("frames.action_centres.atomic_write", refuse)
    assert len(action_centres(store, 6).vectors) == 6
    assert "not kept for the next time" in capsys.readouterr().err


def test_only_training_recordings_are_learned_from(tmp_path):
    record(vector_world, None, tmp_path / "store", frames=200, episode_frames=20, frame_size=(8, 8), val=0.5)
    opened = FrameStore(tmp_path / "store")
    learned = {array.tobytes() for e in opened.of_split("train") for array in opened.array(e, "action.vector")}
    assert all(vector.tobytes() in learned for vector in action_centres(tmp_path / "store", 4).vectors)


def test_a_store_of_other_actions_names_what_it_has(tmp_path):
    record(lambda: Grey(forward=spaces.Discrete(2)), None, tmp_path / "store", frames=40, episode_frames=20, frame_size=(8, 8))
    with pytest.raises(UserError, match=r"has no 'action.vector' \(its actions: action.forward\)"):
        action_centres(tmp_path / "store", 4)


def test_one_action_is_no_choice(store):
    with pytest.raises(UserError, match="at least 2"):
        action_centres(store, 1)
