import numpy as np
import pytest
from gymnasium import spaces

from frames import RandomPlayer, WanderingPlayer, wanders_in

KEYS = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")


class Words(spaces.Discrete):
    """Stands in for a MineRL key that takes a word."""

    def __init__(self, *values: str) -> None:
        super().__init__(len(values))
        self.values, self.default = values, "none"


DICTIONARY = spaces.Dict(
    {**{key: spaces.Discrete(2) for key in KEYS}, "camera": spaces.Box(-180, 180, (2,), np.float32), "place": Words("dirt", "none")}
)
HUMAN = spaces.Dict({**DICTIONARY.spaces, "ESC": spaces.Discrete(2), "inventory": spaces.Discrete(2)})


def played(player, ticks: int = 3000, seed: int = 5) -> list[dict]:
    player.reset(seed)
    return [player(None, {}) for _ in range(ticks)]


def test_a_wanderer_stays_near_the_level_and_turns_all_around():
    turns = np.array([action["camera"] for action in played(WanderingPlayer(DICTIONARY))])
    pitch, yaw = np.cumsum(turns, axis=0).T
    assert np.abs(pitch).max() < 90
    assert np.abs(pitch).mean() < 30
    assert yaw.max() - yaw.min() > 360


def test_a_wanderer_mostly_walks_hacks_at_times_and_never_places_anything():
    actions = played(WanderingPlayer(DICTIONARY))
    assert np.mean([action["forward"] for action in actions]) > 0.4
    assert 0.05 < np.mean([action["attack"] for action in actions]) < 0.6
    assert {DICTIONARY["place"].values[action["place"]] for action in actions} == {"none"}
    assert all(DICTIONARY.contains({**action, "place": np.int64(action["place"])}) for action in actions[:50])


def test_a_wanderers_episode_follows_from_its_seed():
    player = WanderingPlayer(DICTIONARY)
    first, other, again = played(player, 200, 1), played(player, 200, 2), played(player, 200, 1)
    assert str(first) == str(again) != str(other)


@pytest.mark.parametrize("player", [WanderingPlayer, RandomPlayer])
def test_no_player_ends_the_episode_or_opens_a_screen(player):
    actions = played(player(HUMAN), 400)
    assert not any(action["ESC"] or action["inventory"] for action in actions)


def test_a_vector_is_nothing_to_wander_with():
    assert wanders_in(DICTIONARY)
    assert not wanders_in(spaces.Dict({"vector": spaces.Box(-1, 1, (64,))}))
    assert not wanders_in(spaces.Discrete(3))
