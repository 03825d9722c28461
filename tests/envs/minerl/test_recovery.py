"""A game's death ends an episode and nothing else, and it is counted."""

import threading

import numpy as np
import pytest
from gymnasium import spaces

from envs.minerl import processes, recovery
from envs.minerl.game import GameDied
from envs.minerl.recovery import RecoveringGame
from foundation.errors import UserError


class FakeGame:
    """Counts its ticks; `fate` says at which resets and ticks (counted over its life) it dies."""

    task_id = "MineRLTreechop-v0"
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (2, 2, 3), np.uint8)})
    action_space = spaces.Dict({"forward": spaces.Discrete(2)})
    max_episode_steps = 8000

    def __init__(self, fatal_resets=(), fatal_ticks=()):
        self.fatal_resets, self.fatal_ticks = fatal_resets, fatal_ticks
        self.resets = self.ticks = self.closed = 0
        self.seeds = []

    def reset(self, seed=None):
        self.resets += 1
        self.seeds.append(seed)
        if self.resets in self.fatal_resets:
            raise GameDied(f"reset {self.resets} died")
        return self._observation()

    def step(self, action):
        self.ticks += 1
        if self.ticks in self.fatal_ticks:
            raise GameDied(f"tick {self.ticks} died")
        return self._observation(), 1.0, False, {"own": self.ticks}

    def close(self):
        self.closed += 1

    def processes(self):
        return []

    def _observation(self):
        return {"pov": np.full((2, 2, 3), self.ticks % 256, np.uint8)}


@pytest.fixture(autouse=True)
def _own_temporary_folder_and_no_pauses(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(recovery.time, "sleep", lambda seconds: None)


def play(game, ticks):
    """Step as a VecEnv does, with a reset after each end; return the infos of ends."""
    ends = []
    game.reset(0)
    for _ in range(ticks):
        _, _, done, info = game.step({})
        if done:
            ends.append(info)
            game.reset(0)
    return ends


def test_the_step_that_meets_a_death_repeats_the_last_picture_and_pays_nothing():
    game = RecoveringGame(lambda: FakeGame(fatal_ticks=[3]))
    game.reset(5)
    game.step({})
    last = game.step({})[0]
    observation, reward, done, info = game.step({})
    assert observation is last
    assert (reward, done) == (0.0, True)
    assert info == {"minerl/error": "tick 3 died", "minerl/deaths": 1, "minerl/failed_resets": 0}


def test_an_episode_without_a_death_is_passed_on_unchanged():
    game = RecoveringGame(FakeGame)
    assert game.reset(1)["pov"].max() == 0
    observation, reward, done, info = game.step({})
    assert (observation["pov"].max(), reward, done) == (1, 1.0, False)
    assert info == {"own": 1, "minerl/deaths": 0, "minerl/failed_resets": 0}


def test_deaths_and_failed_resets_are_counted_once_each():
    fake = FakeGame(fatal_resets=[2, 4, 5], fatal_ticks=[30, 60, 90])
    game = RecoveringGame(lambda: fake)
    ends = play(game, 120)
    assert [end["minerl/deaths"] for end in ends] == [1, 2, 3]
    assert game.counts() == {"minerl/deaths": 3, "minerl/failed_resets": 3}
    assert fake.ticks == 120


def test_a_reset_is_tried_again_with_the_same_seed_and_then_given_up_with_the_reason():
    fake = FakeGame(fatal_resets=[1, 2, 3, 4, 5])
    game = RecoveringGame(lambda: fake, retries=2)
    with pytest.raises(GameDied, match="no reset in 3 tries succeeded, the last: reset 3 died"):
        game.reset(11)
    assert fake.seeds == [11, 11, 11]
    assert fake.closed == 3


def test_games_that_all_die_at_once_are_given_up_instead_of_filling_the_run_with_empty_episodes():
    game = RecoveringGame(lambda: FakeGame(fatal_ticks=range(1000)), retries=2)
    with pytest.raises(GameDied, match="died within a second 3 times on end, the last time: tick 3 died"):
        play(game, 100)


def test_deaths_that_lie_apart_never_add_up_to_giving_up():
    game = RecoveringGame(lambda: FakeGame(fatal_ticks=range(25, 1000, 25)), retries=0)
    assert len(play(game, 999)) == 39


def test_a_spare_game_is_started_ahead_and_takes_the_dead_ones_place():
    made = []

    def make():
        made.append(FakeGame(fatal_ticks=[30]))
        return made[-1]

    game = RecoveringGame(make, spare=True)
    play(game, 65)
    game.close()
    assert [fake.ticks for fake in made[:3]] == [30, 30, 5]
    # once without a seed ahead of its time, then in the world that was asked for
    assert [fake.seeds for fake in made[:3]] == [[0], [None, 0], [None, 0]]
    assert len(made) == 4
    assert all(fake.closed for fake in made)


def test_a_spare_game_that_does_not_start_is_done_without():
    made = []

    def make():
        made.append(FakeGame(fatal_ticks=[30], fatal_resets=[1] if made else []))
        return made[-1]

    game = RecoveringGame(make, spare=True)
    assert len(play(game, 40)) == 1
    assert made[0].ticks == 40
    assert game.counts() == {"minerl/deaths": 1, "minerl/failed_resets": 0}
    game.close()


def test_closing_ends_a_spare_game_that_is_still_being_started():
    started, ended = threading.Event(), threading.Event()
    made = []

    class Slow(FakeGame):
        def reset(self, seed=None):
            if len(made) > 1:
                started.set()
                ended.wait(10)
                raise GameDied("closed while it started")
            return super().reset(seed)

        def close(self):
            super().close()
            if self is made[-1]:
                ended.set()

    def make():
        made.append(Slow())
        return made[-1]

    game = RecoveringGame(make, spare=True)
    game.reset(0)
    assert started.wait(10)
    game.close()
    assert all(fake.closed for fake in made)
    assert len(made) == 2


def test_what_runs_is_written_down_and_forgotten_when_closed():
    class Running(FakeGame):
        def processes(self):
            return [] if self.closed else [1]

    game = RecoveringGame(Running)
    game.reset(0)
    (record,) = processes.own_folder().glob("*.json")
    assert f"[[1, {processes.identify(1).since}]]" in record.read_text()
    game.close()
    assert list(processes.own_folder().glob("*.json")) == []


@pytest.mark.parametrize("retries", [-1, 1.5, True, "3"])
def test_retries_are_a_whole_number(retries):
    with pytest.raises(UserError, match="retries"):
        RecoveringGame(FakeGame, retries=retries)
