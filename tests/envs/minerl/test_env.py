"""What gymnasium is promised of a game, whatever the game does; with a game that plays by the book."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.minerl import installation
from envs.minerl.env import MineRLEnv
from envs.minerl.game import GameDied
from foundation.errors import UserError
from foundation.seeds import FIRST_EVALUATION_SEED

needs_minerl = pytest.mark.skipif(not installation.is_installed(), reason="needs minerl: make minerl")


class ScriptedGame:
    """Ends at a chosen step, dies at another, and remembers its seeds."""

    task_id = "MineRLScripted-v0"
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    action_space = spaces.Dict({"forward": spaces.Discrete(2)})

    def __init__(self, length=1000, ends=None, dies=None, errs=None, starts=True):
        self.max_episode_steps = length
        self.ends, self.dies, self.errs, self.starts = ends, dies, errs, starts
        self.seeds, self.closed = [], False

    def _observation(self):
        return {"pov": np.full((8, 8, 3), self.steps % 256, np.uint8)}

    def reset(self, seed=None):
        if not self.starts:
            raise GameDied("it did not start; it printed last: no java")
        self.seeds.append(seed)
        self.steps = 0
        return self._observation()

    def step(self, action):
        self.steps += 1
        if self.steps == self.dies:
            raise GameDied("it hung")
        info = {"minerl/error": "lost"} if self.steps == self.errs else {}
        return self._observation(), 1.0, self.steps in (self.ends, self.errs, self.max_episode_steps), info

    def close(self):
        self.closed = True

    def processes(self):
        return []


def play(env, most=2000):
    """Play until the episode ends; return how many steps it took, and the last step."""
    env.reset(seed=0)
    for count in range(1, most):
        result = env.step({"forward": 1})
        if result[2] or result[3]:
            return count, result
    raise AssertionError("the episode does not end")


def test_success_terminates():
    count, (_, reward, terminated, truncated, _) = play(MineRLEnv(ScriptedGame(ends=7)))
    assert (count, reward, terminated, truncated) == (7, 1.0, True, False)


@pytest.mark.parametrize("ends", [None, 995])
def test_the_clock_truncates_also_where_it_runs_a_little_fast(ends):
    _, (_, _, terminated, truncated, _) = play(MineRLEnv(ScriptedGame(ends=ends)))
    assert (terminated, truncated) == (False, True)


def test_a_shorter_episode_is_truncated():
    count, (_, _, terminated, truncated, _) = play(MineRLEnv(ScriptedGame(), episode_ticks=5))
    assert (count, terminated, truncated) == (5, False, True)


def test_success_in_the_last_tick_of_a_shorter_episode_terminates():
    _, (_, _, terminated, truncated, _) = play(MineRLEnv(ScriptedGame(ends=5), episode_ticks=5))
    assert (terminated, truncated) == (True, False)


def test_an_error_of_the_client_truncates():
    _, (_, _, terminated, truncated, info) = play(MineRLEnv(ScriptedGame(errs=3)))
    assert (terminated, truncated, info["minerl/error"]) == (False, True, "lost")


def test_the_death_of_a_game_truncates_with_the_last_observation_and_no_reward():
    env = MineRLEnv(ScriptedGame(dies=4))
    count, (observation, reward, terminated, truncated, info) = play(env)
    assert (count, reward, terminated, truncated) == (4, 0.0, False, True)
    assert observation["pov"].max() == 3
    assert "hung" in info["minerl/error"]
    assert env.reset(seed=1)[0]["pov"].max() == 0


def test_a_game_that_does_not_start_says_what_it_printed_and_where_to_look():
    with pytest.raises(UserError, match="no java; `make check`"):
        MineRLEnv(ScriptedGame(starts=False)).reset()


def test_every_episode_has_a_seed_and_zero_is_one():
    game = ScriptedGame()
    env = MineRLEnv(game)
    infos = [env.reset(seed=0)[1], env.reset()[1], env.reset()[1], env.reset(seed=0)[1], env.reset()[1]]
    assert game.seeds == [info["minerl/seed"] for info in infos]
    assert game.seeds[0] == game.seeds[3] == 0
    assert game.seeds[1] == game.seeds[4] != game.seeds[2]
    assert all(seed < FIRST_EVALUATION_SEED for seed in game.seeds)


def test_worlds_after_an_evaluation_world_are_evaluation_worlds():
    game = ScriptedGame()
    env = MineRLEnv(game)
    env.reset(seed=FIRST_EVALUATION_SEED + 3)
    env.reset()
    assert game.seeds[1] >= FIRST_EVALUATION_SEED


def test_it_renders_the_last_frame_and_closes_the_game():
    game = ScriptedGame()
    env = MineRLEnv(game, render_mode="rgb_array")
    play(env)
    assert (env.render() == env.step({"forward": 0})[0]["pov"] - 1).all()
    env.close()
    assert game.closed


@needs_minerl
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("MineRLTreechp-v0", {}, "minerl .* has no 'MineRLTreechp-v0': did you mean 'MineRLTreechop-v0'\\?$"),
        ("MineRLTreechop-v0", {"servr": "voxel"}, "did you mean 'server'"),
        ("MineRLTreechop-v0", {"server": "voxels"}, "did you mean 'voxel'"),
        ("MineRLTreechop-v0", {"timeout": 0}, "timeout=0"),
        ("MineRLTreechop-v0", {"start_timeout": "long"}, "start_timeout='long'"),
        ("MineRLTreechop-v0", {"spare": "maybe"}, "spare='maybe': must be yes or no"),
        ("MineRLTreechop-v0", {"headless": "auto"}, "headless='auto': must be yes or no"),
        ("MineRLTreechop-v0", {"python": 3.8}, "python=3.8: must be the path of an interpreter"),
        ("MineRLTreechop-v0", {"python": sys.executable, "timeout": "long"}, "timeout='long'"),
        ("MineRLTreechop-v0", {"episode_ticks": 9000}, "from 1 to 8000"),
        ("MineRLObtainDiamond-v0", {"server": "voxel"}, "cannot play MineRLObtainDiamond-v0.*stands in for MineRLTreechop-v0"),
        ("MineRLNavigateExtreme-v0", {"server": "voxel"}, "extreme hills"),
        ("MineRLBasaltFindCave-v0", {"server": "voxel"}, "no task that rewards nothing"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        envs.make_env(name, **options)
    assert "\n" not in str(caught.value)


def test_without_minerl_the_message_says_what_helps(monkeypatch):
    monkeypatch.setattr(installation, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"minerl is not installed.*make minerl.*python=PATH.*make check"):
        envs.make_env("MineRLTreechop-v0")


@needs_minerl
def test_minerl_without_its_java_side_says_so_before_a_build_begins():
    env = envs.make_env("MineRLTreechop-v0")
    assert isinstance(env, gymnasium.Env)
    if not any(installation.minecraft_folder().glob("build/libs/*.jar")):
        with pytest.raises(UserError, match=r"without Minecraft.*server='voxel'"):
            env.reset(seed=0)
    env.close()
