"""Rollouts join a finished store: nothing of it is lost, moved to another split, or played twice."""

import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from frames import FrameStore, record
from frames.building.merging import merge_stores
from frames.looking.inspecting import verify
from frames.rollouts import _turns


class Counting(gymnasium.Env):
    """Shows noise of its seed and tick; offers a segmentation."""

    metadata = {"render_fps": 20}
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8)})

    def __init__(self, actions: Any = None) -> None:
        self.action_space = spaces.Dict({"go": spaces.Discrete(2)}) if actions is None else actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.ticks = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.ticks += 1
        return self._look(), 1.0, False, self.ticks >= 10, {}

    def segmentation(self) -> np.ndarray:
        return np.full((8, 8), self.ticks, np.uint8)

    def _look(self) -> dict[str, np.ndarray]:
        return {"pov": self.np_random.integers(0, 256, (8, 8, 3), np.uint8)}


class Darker(Counting):
    """The same worlds at night: no frame repeats one of the day."""

    def _look(self) -> dict[str, np.ndarray]:
        return {"pov": super()._look()["pov"] // 4}


class Dusk(Counting):
    """The same again, in between."""

    def _look(self) -> dict[str, np.ndarray]:
        return {"pov": super()._look()["pov"] // 2}


class Stopping(Counting):
    """Raises Ctrl-C in the reset of episode `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.resets = at, 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.resets += 1
        if self.resets == self.at:
            raise KeyboardInterrupt
        return super().reset(**options)


def rollouts(path: Path, make: Any = Counting, frames: int = 44, **options: Any) -> Any:
    return record(make, None, path, frames=frames, frame_size=(8, 8), name="Counting", val=0.3, **options)


def content(store: FrameStore) -> dict[str, tuple[Any, ...]]:
    return {episode.name: (episode.content, episode.split, episode.length, episode.source) for episode in store.episodes}


def test_new_episodes_join_and_the_old_ones_stay_as_they_were(tmp_path: Path) -> None:
    rollouts(tmp_path / "store")
    before = FrameStore(tmp_path / "store")
    frames = before.frames(np.arange(len(before)))
    summary = rollouts(tmp_path / "store", frames=33, seed=1, append=True)
    after = FrameStore(tmp_path / "store")
    assert (summary.frames, summary.episodes, summary.decoded, summary.kept, summary.held) == (77, 7, 3, 0, 4)
    assert content(after).items() > content(before).items()
    assert {name.partition("/")[0] for name in content(after)} == {"seed 0", "seed 1"}
    assert [plan["seed"] for plan in after.meta["appended"]] == [1]
    assert after.meta["plan"] == before.meta["plan"]
    assert verify(after) == []
    # who has it open reads on
    assert np.array_equal(before.frames(np.arange(len(before))), frames)
    again = rollouts(tmp_path / "store", frames=33, seed=1, append=True)
    assert (again.finished_before, again.frames) == (True, 77)


def test_a_killed_append_leaves_the_store_and_goes_on_to_the_same(tmp_path: Path) -> None:
    rollouts(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "straight")
    kept = (tmp_path / "store" / "data.mdb").read_bytes()
    for at in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            rollouts(tmp_path / "store", lambda at=at: Stopping(at), frames=33, seed=1, append=True)
        assert (tmp_path / "store" / "data.mdb").read_bytes() == kept
    summary = rollouts(tmp_path / "store", frames=33, seed=1, append=True)
    assert (summary.kept, summary.decoded, summary.held) == (2, 1, 4)
    rollouts(tmp_path / "straight", frames=33, seed=1, append=True)
    assert content(FrameStore(tmp_path / "store")) == content(FrameStore(tmp_path / "straight"))
    assert not (tmp_path / "store.building" / "store").exists()


def test_the_same_worlds_are_not_played_again(tmp_path: Path) -> None:
    rollouts(tmp_path / "store")
    rollouts(tmp_path / "store", seed=7, append=True)
    with pytest.raises(UserError, match="has rollouts of seed 0 already, in the same worlds; give --seed 8"):
        rollouts(tmp_path / "store", frames=22, append=True)


@pytest.mark.parametrize(
    ("make", "options", "complaint"),
    [
        (lambda: Counting(spaces.Discrete(3)), {"beside": ("segmentation",)}, "its actions (go) are not those of seed 1/000000 random"),
        (Counting, {}, "has a segmentation of all its frames, and seed 1/000000 random has none; add --record segmentation"),
        (Counting, {"resize": "crop"}, "append with --resize squash"),
    ],
)
def test_what_would_cost_the_store_its_labels_is_refused_and_leaves_it(tmp_path: Path, make: Any, options: Any, complaint: str) -> None:
    rollouts(tmp_path / "store", beside=("segmentation",))
    kept = (tmp_path / "store" / "data.mdb").read_bytes()
    with pytest.raises(UserError, match=re.escape(complaint)):
        rollouts(tmp_path / "store", make, seed=1, append=True, **options)
    assert (tmp_path / "store" / "data.mdb").read_bytes() == kept
    assert rollouts(tmp_path / "store", seed=1, append=True, beside=("segmentation",)).frames == 88


def test_a_merged_store_still_says_what_it_was_made_of(tmp_path: Path) -> None:
    rollouts(tmp_path / "one")
    rollouts(tmp_path / "other", seed=1)
    merge_stores([tmp_path / "one", tmp_path / "other"], tmp_path / "store")
    made_of = FrameStore(tmp_path / "store").meta["made_of"]
    rollouts(tmp_path / "store", seed=2, append=True)
    assert FrameStore(tmp_path / "store").meta["made_of"] == made_of


def test_a_merged_store_still_knows_whose_worlds_it_has(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        rollouts(tmp_path / folder, Counting if folder == "one" else Darker)
    merge_stores([tmp_path / "one", tmp_path / "other"], tmp_path / "store")
    names = [episode.name for episode in FrameStore(tmp_path / "store").episodes]
    assert "one/seed 0/000000 random" in names
    with pytest.raises(UserError, match="has rollouts of seed 0 already, in the same worlds; give --seed 1"):
        rollouts(tmp_path / "store", append=True)


class Sitting:
    """Plays as nobody else."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reset(self, seed: int) -> None:
        pass

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any:
        return {"go": 0}


def test_a_world_that_merged_stores_share_is_in_one_split_whatever_was_played(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    places = [tmp_path / name for name in ("a", "b", "c")]
    for place, make, split in zip(places, (Counting, Darker, Dusk), ("train", "val", "test"), strict=True):
        task = "Another" if place.name == "c" else "Counting"
        options = {"frame_size": (8, 8), "name": "Counting", "task": task, "split": split, "seed": 3}
        record(make, Sitting(place.name), place, frames={"a": 44, "b": 22, "c": 11}[place.name], **options)
    merge_stores(places, tmp_path / "store")
    splits = {episode.name: episode.split for episode in FrameStore(tmp_path / "store").episodes}
    assert splits == {
        "seed 3/000000 a": "test",
        "seed 3/000001 a": "val",
        "seed 3/000002 a": "train",
        "seed 3/000003 a": "train",
        "seed 3/000000 b": "test",
        "seed 3/000001 b": "val",
        # another task, in the same world
        "seed 3/000000 c": "test",
    }
    assert "3 episodes take the split of others" in capsys.readouterr().err


@pytest.mark.parametrize("shares", [(1, 1), (2, 1), (5, 3, 1), (0.2, 0.5)])
def test_turns_follow_the_shares(shares: tuple[float, ...]) -> None:
    turns = _turns(shares)
    taken = [next(turns) for _ in range(600)]
    counts = np.bincount(taken)
    np.testing.assert_allclose(counts / 600, np.array(shares) / sum(shares), atol=0.01)
    if shares == (1, 1):
        assert taken == [0, 1] * 300


def test_shares_that_fit_no_players_are_refused(tmp_path: Path) -> None:
    for shares in ((1.0, 2.0), (0.0,)):
        with pytest.raises(UserError, match="give one greater than 0 for each player"):
            rollouts(tmp_path / "store", shares=shares)
