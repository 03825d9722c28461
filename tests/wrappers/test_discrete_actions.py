import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.minerl.spaces import Enum
from foundation.errors import UserError
from wrappers import DiscreteActions

KEYS = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")


class Recorder(gymnasium.Env):
    """MineRL's Navigate actions; remembers the last one."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Dict(
        {
            **{key: spaces.Discrete(2) for key in KEYS},
            "camera": spaces.Box(-180, 180, (2,), np.float32),
            "place": Enum(["dirt", "none"], "none"),
        }
    )

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.last = action
        return np.zeros(1, np.float32), 0.0, False, False, {}


def played(env, *indices):
    env.reset()
    actions = []
    for index in indices:
        env.step(index)
        actions.append(env.env.last)
    return actions


def test_keys_are_pressed_together_and_the_rest_stays_idle():
    (action,) = played(DiscreteActions(Recorder(), ["forward+jump+camera_left"], camera_degrees=10), 0)
    assert {key for key in KEYS if action[key]} == {"forward", "jump"}
    assert action["place"] == "none"
    np.testing.assert_allclose(action["camera"], [0, -10])


def test_attack_is_held_for_the_sticky_steps_and_no_longer():
    env = DiscreteActions(Recorder(), ["attack", "forward"], sticky_attack=2)
    assert [action["attack"] for action in played(env, 1, 0, 1, 1, 1)] == [0, 1, 1, 1, 0]


def test_a_reset_lets_go_of_a_sticky_attack():
    env = DiscreteActions(Recorder(), ["attack", "forward"], sticky_attack=5)
    played(env, 0)
    assert played(env, 1)[0]["attack"] == 0


def test_the_pitch_stays_within_its_limit():
    env = DiscreteActions(Recorder(), ["camera_down", "camera_up"], camera_degrees=25, pitch_limit=60)
    pitches = np.cumsum([action["camera"][0] for action in played(env, 0, 0, 0, 0, 1)])
    np.testing.assert_allclose(pitches, [25, 50, 60, 60, 35])


def test_the_saved_state_goes_on_where_the_episode_was():
    env = DiscreteActions(Recorder(), ["attack", "camera_down", "forward"], camera_degrees=50, sticky_attack=3)
    played(env, 0, 1)
    again = DiscreteActions(Recorder(), ["attack", "camera_down", "forward"], camera_degrees=50, sticky_attack=3)
    again.reset()
    again.restore_state(env.save_state())
    again.step(1)
    assert again.env.last["attack"] == 1
    np.testing.assert_allclose(again.env.last["camera"], [10, 0])


def with_keys(**keys):
    env = Recorder()
    env.action_space = spaces.Dict({**Recorder.action_space.spaces, **keys})
    return env


def test_a_key_that_takes_a_word_is_pressed_with_it_and_others_say_none():
    env = with_keys(craft=Enum(["none", "planks", "stick"], "none"), nearbySmelt=Enum(["coal", "none"], "none"))
    planks, coal = played(DiscreteActions(env, ["craft_planks", "nearbySmelt_coal+forward"]), 0, 1)
    assert (planks["craft"], planks["nearbySmelt"], planks["place"]) == ("planks", "none", "none")
    assert (coal["craft"], coal["nearbySmelt"], coal["forward"]) == ("none", "coal", 1)


def test_a_word_that_the_key_does_not_take_is_named():
    with pytest.raises(UserError, match=r"unknown action 'craft_plank'.*did you mean 'craft_planks'"):
        DiscreteActions(with_keys(craft=Enum(["none", "planks"], "none")), ["craft_plank"])


@pytest.mark.parametrize(
    ("keys", "ends"),
    [
        ({"ESC": spaces.Discrete(2)}, {"ESC": 1}),
        ({"equip": Enum(["none", "snowball"], "none"), "use": spaces.Discrete(2)}, {"equip": "snowball", "use": 1}),
    ],
)
def test_the_end_of_a_basalt_episode_is_the_key_that_the_version_has(keys, ends):
    env = DiscreteActions(with_keys(**keys), "find_cave")
    (last,) = played(env, env.action_space.n - 1)
    assert {key: last[key] for key in keys} == ends


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("treechopp", "did you mean 'treechop'"),
        (["forwrad"], "did you mean 'forward'"),
        ([], "the list of actions is empty"),
    ],
)
def test_a_wrong_list_is_named(actions, message):
    with pytest.raises(UserError, match=message):
        DiscreteActions(Recorder(), actions)


def test_another_action_space_is_refused():
    env = Recorder()
    env.action_space = spaces.Discrete(3)
    with pytest.raises(UserError, match="need MineRL's action dictionary"):
        DiscreteActions(env)


def test_a_plain_choice_that_is_called_like_a_key_of_words_is_pressed_like_any_key():
    env = with_keys(craft=spaces.Discrete(3), place=spaces.Discrete(2))
    placed, turned = played(DiscreteActions(env, ["place", "camera_left"]), 0, 1)
    assert (placed["craft"], placed["place"], turned["place"]) == (0, 1, 0)
    assert all(env.action_space.contains(action) for action in (placed, turned))


def test_a_dictionary_without_an_attack_is_none_of_minerl_s():
    class Walking(Recorder):
        action_space = spaces.Dict({"forward": spaces.Discrete(2), "camera": Recorder.action_space["camera"]})

    with pytest.raises(UserError, match="lists of actions need MineRL's action dictionary"):
        DiscreteActions(Walking(), ["forward", "camera_left"])
