"""What is taken down of an environment that somebody plays."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from frames import FrameStore, record
from frames.labels import state_names


class Words(spaces.Discrete):
    """MineRL's enumeration."""

    values, default = ("dirt", "none"), "none"


class Meadow(gymnasium.Env):
    """Keys that an action leaves out are not pressed; it tells its state as arrays of one number."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Dict(
        {
            "forward": spaces.Discrete(2),
            "camera": spaces.Box(-180, 180, (2,)),
            "hands": spaces.Dict({"left": spaces.MultiBinary(2)}),
            "place": Words(2),
        }
    )
    metadata = {"render_fps": 20}
    place: Any = np.array([0.5])

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        return np.zeros((8, 8, 3), np.uint8), {"state": {"place": self.place}}

    def step(self, action):
        self.given.append(action)
        return np.full((8, 8, 3), len(self.given), np.uint8), 0.0, False, False, {"state": {"place": self.place}}


class Sparing:
    """Says only what it does: every other tick it goes, in the third it does something of everything."""

    def reset(self, seed: int) -> None:
        self.ticks = 0

    def __call__(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        self.ticks += 1
        if self.ticks == 3:
            return {"forward": 1, "camera": [1.5, 0.0], "hands": {"left": np.array([1, 0], np.int8)}, "place": "dirt"}
        return {"forward": 1} if self.ticks % 2 else {}


def recorded(path, env: Meadow, **options: Any) -> FrameStore:
    record(lambda: env, Sparing(), path, frames=5, frame_size=(8, 8), **options)
    return FrameStore(path)


def test_what_an_action_leaves_out_is_recorded_as_not_pressed_and_given_as_it_was(tmp_path):
    env = Meadow()
    store = recorded(tmp_path / "store", env)
    assert store.action_names == ("action.camera", "action.forward", "action.hands.left", "action.place")
    assert store.array(0, "action.forward").tolist() == [1, 0, 1, 0]
    assert store.array(0, "action.camera").tolist() == [[0, 0], [0, 0], [1.5, 0], [0, 0]]
    assert store.array(0, "action.hands.left").tolist() == [[0, 0], [0, 0], [1, 0], [0, 0]]
    assert store.array(0, "action.place").tolist() == ["none", "none", "dirt", "none"]
    assert [sorted(action) for action in env.given] == [["forward"], [], ["camera", "forward", "hands", "place"], []]


def test_a_state_of_boxes_of_one_number_is_recorded_as_numbers(tmp_path):
    store = recorded(tmp_path / "store", Meadow(), beside=("state",))
    assert state_names(store) == ["place"]
    assert store.array(0, "observation.state.place").tolist() == [0.5] * 5


def test_a_state_of_several_numbers_under_one_name_is_refused_by_that_name(tmp_path):
    env = Meadow()
    env.place = np.zeros(3)
    with pytest.raises(UserError, match=r"info\['state'\] holds an array \(3,\) as 'place'; tell each of its numbers under a name"):
        recorded(tmp_path / "store", env, beside=("state",))
    assert list(tmp_path.iterdir()) == []
