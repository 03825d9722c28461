"""Several ticks of ViZDoom in one call are the same as one after the other."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.doom import DoomTicks, steps_ticks
from envs.pictures import PictureObservation
from wrappers import FrameSkip

HEALTH = "vizdoom.gymnasium_wrapper:VizdoomHealthGathering-v1"


class Doom(gymnasium.Env):
    """Steps as ViZDoom's environments do: `frame_skip` ticks a call, or up to the tick that ends the episode, the 10th."""

    __module__ = "vizdoom.gymnasium_wrapper.made_up"
    metadata = {"render_fps": 35}
    observation_space = spaces.Dict({"screen": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    action_space = spaces.Discrete(3)

    def __init__(self, frame_skip=1):
        self.frame_skip, self.calls = frame_skip, 0

    def reset(self, *, seed=None, options=None):
        self.ticks = 0
        return self._see(), {}

    def step(self, action):
        self.calls += 1
        left = min(self.frame_skip, 10 - self.ticks)
        self.ticks += left
        return self._see(), float(left * action), self.ticks == 10, False, {}

    def _see(self):
        return {"screen": np.full((8, 8, 3), self.ticks, np.uint8)}


def played(env, *actions):
    env.reset(seed=0)
    return [(int(seen["pov"].max()), reward, over) for seen, reward, over, *_ in (env.step(action) for action in actions)]


@pytest.mark.parametrize("own", [1, 2])
def test_ticks_at_once_are_those_one_after_the_other_in_fewer_calls(own):
    at_once, each = Doom(own), Doom(own)
    assert steps_ticks(at_once)
    fast = FrameSkip(PictureObservation(DoomTicks(at_once)), 4 // own)
    slow = FrameSkip(PictureObservation(each), 4 // own)
    assert played(fast, 1, 2, 1) == played(slow, 1, 2, 1) == [(4, 4.0, False), (8, 8.0, False), (10, 2.0, True)]
    assert (at_once.calls, each.calls) == (3, 10 // own)
    assert at_once.frame_skip == own


def test_what_counts_calls_or_hears_a_step_is_stepped_tick_by_tick():
    limited = gymnasium.wrappers.TimeLimit(Doom(), 5)
    limited.unwrapped.spec = gymnasium.envs.registration.EnvSpec("Doom-v0", max_episode_steps=5)
    assert not steps_ticks(limited)
    hearing = Doom()
    hearing.observation_space = spaces.Dict({**Doom.observation_space.spaces, "audio": spaces.Box(-1, 1, (4,), np.float32)})
    assert not steps_ticks(hearing)

    class Physics(Doom):
        __module__ = "another.package"

    assert not steps_ticks(Physics())


def test_health_gathering_is_the_same_either_way():
    pytest.importorskip("vizdoom", reason="needs the package vizdoom")
    fast = FrameSkip(envs.make_env(HEALTH), 4)
    slow = FrameSkip(PictureObservation(fast.env.env.env), 4)
    assert steps_ticks(fast.env.env.env)
    random = np.random.default_rng(0)
    actions = random.integers(fast.action_space.n, size=60)
    seen = []
    for env in (fast, slow):
        env.reset(seed=3)
        steps = [env.step(int(action)) for action in actions]
        seen.append([(step[0]["pov"].tobytes(), *step[1:4]) for step in steps])
    fast.close()
    assert seen[0] == seen[1]
