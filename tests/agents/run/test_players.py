"""The scripted player, whose return is 1 in normalised scores, plays the worlds that agents are evaluated in."""

from typing import Any

import numpy as np
import pytest

from agents.run.environment_config import EnvironmentConfig
from agents.run.evaluation import play_scripted
from envs import make_env, scripted_player
from envs.player import ScriptedPlayer

TICKS = 78


def played_by_hand(name: str, number: int, seed: int, most: int) -> tuple[list[np.ndarray], float]:
    """Return what stood before each action in the first ticks of an evaluation world, and the sum of its rewards."""
    env, player = make_env(name, episode_ticks=TICKS), scripted_player(name, noise=0.0)
    observation, info = env.reset(seed=2**30 + number)
    player.reset(seed)
    pictures, rewards, ended = [], [], False
    while not ended and len(pictures) < most:
        pictures.append(observation["pov"].copy())
        observation, reward, terminated, truncated, info = env.step(player(observation, info))
        rewards.append(float(reward))
        ended = terminated or truncated
    return pictures, sum(rewards)


@pytest.mark.parametrize("name", ["VoxelForage-v0", "VoxelNavigateDense-v0"])
@pytest.mark.parametrize(("settings", "ticks"), [({}, TICKS), ({"episode_steps": 60}, 60), ({"episode_steps": 400}, TICKS)])
def test_it_acts_every_tick_in_evaluation_worlds_until_they_or_the_limit_end(name: str, settings: dict[str, Any], ticks: int) -> None:
    played = play_scripted(EnvironmentConfig(name, frame_skip=4, options={"episode_ticks": TICKS}, **settings), 3, seed=5)
    by_hand = [played_by_hand(name, number, 5 + number, ticks) for number in range(3)]
    assert played.returns == pytest.approx([total for _, total in by_hand])
    assert len(set(played.returns)) > 1
    # in agent steps, of which the last may be a short one: 20 of 78 ticks
    assert played.lengths == [{78: 20, 60: 15}[ticks]] * 3


def test_its_film_is_what_stood_before_an_agents_steps_in_the_first_world() -> None:
    config = EnvironmentConfig("VoxelForage-v0", frame_skip=4, options={"episode_ticks": TICKS})
    films = {seed: play_scripted(config, 2, seed) for seed in (0, 1)}
    for seed, played in films.items():
        pictures, _ = played_by_hand("VoxelForage-v0", 0, seed, TICKS)
        np.testing.assert_array_equal(played.pictures, pictures[::4])
        assert played.frames_per_second == 20 / 4
    assert not np.array_equal(films[0].pictures, films[1].pictures)


def test_it_plays_each_world_by_chances_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    reset = ScriptedPlayer.reset

    def noticed(player: ScriptedPlayer, seed: int) -> None:
        seeds.append(seed)
        reset(player, seed)

    monkeypatch.setattr(ScriptedPlayer, "reset", noticed)
    play_scripted(EnvironmentConfig("VoxelForage-v0", options={"episode_ticks": 4}), 3, seed=5)
    # a player that is made begins with seed 0
    assert [seed for seed in seeds if seed] == [5, 6, 7]
