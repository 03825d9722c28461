"""Spaces of another gym: what becomes of them, of actions and of observations."""

import json

import numpy as np
import pytest
from gymnasium import spaces as gymnasium_spaces

from envs.minerl import installation, spaces
from foundation.errors import UserError

NAVIGATE = {
    "type": "dict",
    "spaces": {
        "forward": {"type": "discrete", "n": 2},
        "camera": {"type": "box", "low": -180.0, "high": 180.0, "shape": [2], "dtype": "float32"},
        "place": {"type": "enum", "values": ["dirt", "none"], "default": "none"},
    },
}


@pytest.fixture
def action_space():
    return spaces.from_description(NAVIGATE)


def test_keys_left_out_do_nothing(action_space):
    written = spaces.write_action(action_space, {"forward": np.int64(1)})
    assert written["forward"] == 1
    assert written["place"] == "none"
    assert written["camera"].tolist() == [0, 0]


@pytest.mark.parametrize("place", [0, np.int64(0), np.array(0), "dirt", np.str_("dirt")])
def test_an_enum_is_understood_as_a_number_and_as_a_word(action_space, place):
    word = spaces.write_action(action_space, {"place": place})["place"]
    assert type(word) is str
    assert word == "dirt"


def test_a_camera_angle_survives_being_printed(action_space):
    turn = np.array([0.1, -7.3], np.float32)
    printed = [str(number) for number in spaces.write_action(action_space, {"camera": turn})["camera"].tolist()]
    assert [float(text) for text in printed] == turn.astype(np.float64).tolist()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"forwards": 1}, "did you mean 'forward'"),
        ({"forward": 2}, "forward=2: must be from 0 to 1"),
        ({"place": "stone"}, "place='stone'"),
        ({"place": 2}, "place=2"),
        ({"camera": [1.0, np.nan]}, "finite"),
        ({"camera": 1.0}, "camera=1.0"),
    ],
)
def test_an_action_that_is_none_is_named(action_space, action, message):
    with pytest.raises(UserError, match=message):
        spaces.write_action(action_space, action)


def test_an_observation_becomes_contiguous_and_of_its_spaces_dtype():
    angle = {"type": "box", "low": -180, "high": 180, "shape": [], "dtype": "float32"}
    entries = {
        "pov": {"type": "box", "low": 0, "high": 255, "shape": [8, 8, 3], "dtype": "uint8"},
        "compass": {"type": "dict", "spaces": {"angle": angle}},
        "held": {"type": "enum", "values": ["air", "none"], "default": "none"},
    }
    space = spaces.from_description({"type": "dict", "spaces": entries})
    mirrored = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)[::-1]
    read = spaces.read_observation(space, {"pov": mirrored, "compass": {"angle": 12.5}, "held": "none"})
    assert read in space
    assert read["pov"].flags["C_CONTIGUOUS"]
    assert (read["pov"] == mirrored).all()
    assert read["compass"]["angle"].shape == ()
    assert read["held"] == 1


def test_a_space_of_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="tuple"):
        spaces.from_description({"type": "tuple"})
    with pytest.raises(TypeError, match="no counterpart"):
        spaces.describe(object())


@pytest.mark.skipif(not installation.is_installed(), reason="needs minerl: make minerl")
def test_every_task_of_the_installed_version_has_gymnasium_spaces():
    known = installation.specs()
    assert {"MineRLTreechop-v0", "MineRLObtainDiamond-v0", "MineRLTreechopVectorObf-v0", "MineRLBasaltFindCave-v0"} <= known.keys()
    for name, spec in known.items():
        described = json.loads(json.dumps([spaces.describe(spec.observation_space), spaces.describe(spec.action_space)]))
        observations, actions = (spaces.from_description(part) for part in described)
        assert isinstance(observations["pov"], gymnasium_spaces.Box), name
        assert set(observations.spaces) == set(spec.observation_space.spaces), name
        assert set(actions.spaces) == set(spec.action_space.spaces), name
        written = spaces.write_action(actions, actions.sample())
        assert all(written[key] in inner for key, inner in spec.action_space.spaces.items() if isinstance(actions[key], spaces.Enum)), name
