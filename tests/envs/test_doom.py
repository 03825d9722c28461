"""Several ticks of ViZDoom in one call are the same as one after the other, and the state that is told is what its picture shows."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.doom import DoomState, DoomTicks, DoomVariables, has_variables, steps_ticks, thing_to_find
from envs.pictures import PictureObservation
from wrappers import FlatObservation, FrameSkip

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


class Room(Doom):
    """A player at (100, 100) that looks north, and the medkits that a test lays out; the state is gone at the end, as in ViZDoom."""

    __module__ = Doom.__module__
    spec = gymnasium.envs.registration.EnvSpec("Room-v0", kwargs={"scenario_config_file": "health_gathering.cfg"})

    def __init__(self, *medkits):
        super().__init__()
        self.game, self.medkits = SimpleNamespace(set_objects_info_enabled=lambda _: None), medkits

    def _see(self):
        player = SimpleNamespace(name="DoomPlayer", position_x=100.0, position_y=100.0, angle=90.0)
        things = [SimpleNamespace(name="Medikit", position_x=x, position_y=y) for x, y in self.medkits]
        other = SimpleNamespace(name="TeleportFog", position_x=100.0, position_y=101.0)
        self.state = SimpleNamespace(objects=[other, *things, player]) if self.ticks < 10 else None
        return super()._see()


def test_the_nearest_medkit_and_the_nearest_in_view_are_told():
    # one behind to the left, and one ahead to the right, twice as far
    behind, ahead = (100.0 - 30, 100.0 - 40), (100.0 + 60, 100.0 + 80)
    room = Room(ahead, behind)
    assert thing_to_find(room) == "Medikit"
    env = DoomTicks(DoomState(room, "Medikit"))
    told = env.reset(seed=0)[1]["state"]
    assert told.keys() == env.get_wrapper_attr("state_space").spaces.keys()
    expected = {
        "nearest_bearing_cos": -0.8,
        "nearest_bearing_sin": -0.6,
        "nearest_distance": np.log(1 + 50 / 32) / np.log(33),
        "seen_bearing_cos": 0.8,
        "seen_bearing_sin": 0.6,
        "seen_distance": np.log(1 + 100 / 32) / np.log(33),
    }
    assert told == pytest.approx(expected)
    assert env.step_ticks(1, 4)[4]["state"] == told
    # the last step's state is gone
    assert env.step_ticks(1, 8)[4]["state"] == told

    nothing = DoomState(Room(behind), "Medikit").reset(seed=0)[1]["state"]
    assert [nothing[f"seen_{what}"] for what in ("bearing_cos", "bearing_sin", "distance")] == [0.0, 0.0, 1.0]
    far = DoomState(Room((100.0, 5000.0)), "Medikit").reset(seed=0)[1]["state"]
    assert far["nearest_distance"] == 1.0
    assert thing_to_find(Doom()) is None


def test_game_variables_have_dooms_bounds_and_others_none():
    class Fighter(Doom):
        __module__ = Doom.__module__
        most = np.finfo(np.float32).max
        observation_space = spaces.Dict({**Doom.observation_space.spaces, "gamevariables": spaces.Box(-most, most, (3,), np.float32)})

        def __init__(self, *names):
            super().__init__()
            variables = [SimpleNamespace(name=name) for name in names]
            self.game = SimpleNamespace(get_available_game_variables=lambda: variables)

        def _see(self):
            return {**super()._see(), "gamevariables": np.array([-7, 50, 3], np.float32)}

    assert not has_variables(Doom())
    assert has_variables(Fighter())
    known = DoomVariables(Fighter("HEALTH", "AMMO2", "SELECTED_WEAPON"))
    seen = FlatObservation(PictureObservation(known)).reset(seed=0)[0]["gamevariables"]
    # a dead player's health is below 0
    assert seen == pytest.approx([-1.0, 50 / 300 - 1, 3 / 4.5 - 1])
    some = DoomVariables(Fighter("HEALTH", "KILLCOUNT", "ARMOR"))
    bounds = some.observation_space["gamevariables"]
    assert bounds.high.tolist() == [200.0, Fighter.most, 200.0]
    assert bounds.low.tolist() == [0.0, -Fighter.most, 0.0]
    # a count without an end stays a count, and takes nothing from the others
    env = FlatObservation(PictureObservation(some))
    assert env.reset(seed=0)[0]["gamevariables"] == pytest.approx([-1.0, 50.0, 3 / 100 - 1])
    assert env.observation_space["gamevariables"].high.tolist() == [1.0, np.inf, 1.0]


@pytest.mark.parametrize(("scenario", "first"), [("VizdoomHealthGathering-v1", 92 / 100 - 1), ("VizdoomBasic-v1", 50 / 300 - 1)])
def test_what_agents_see_of_a_scenario_is_from_minus_one_to_one(scenario, first):
    pytest.importorskip("vizdoom", reason="needs the package vizdoom")
    env = FlatObservation(envs.make_env(f"vizdoom.gymnasium_wrapper:{scenario}"))
    assert env.reset(seed=0)[0]["gamevariables"] == pytest.approx([first])
    assert (env.observation_space["gamevariables"].low, env.observation_space["gamevariables"].high) == (-1, 1)
    env.close()


def test_health_gatherings_state_is_what_its_picture_shows():
    """ViZDoom's labels say which pixels show which medkit: 320 pixels are 90 degrees, and a height is as one over the depth."""
    pytest.importorskip("vizdoom", reason="needs the package vizdoom")
    env, plain = envs.make_env(HEALTH, labels_buffer_enabled=True), gymnasium.make(HEALTH)
    random = np.random.default_rng(0)
    env.reset(seed=4), plain.reset(seed=4)
    sizes = []
    for _ in range(600):
        action = int(random.integers(env.action_space.n))
        observation, *outcome, info = env.step(action)
        seen, *same, _ = plain.step(action)
        # to be told changes no game
        assert outcome == same
        assert (observation["pov"] == seen["screen"]).all()
        if outcome[1] or outcome[2]:
            env.reset(), plain.reset()
            continue
        medkits = [label for label in env.unwrapped.state.labels if label.object_name == "Medikit"]
        whole = all(0 < label.y < label.y + label.height < 239 for label in medkits)
        state = info["state"]
        if whole and np.arccos(state["seen_bearing_cos"]) < np.radians(35):
            right = state["seen_bearing_sin"] / state["seen_bearing_cos"]
            rights = np.array([label.x + label.width / 2 - 160 for label in medkits]) / 160
            away = np.hypot(1, rights) / [label.height for label in medkits]
            there = away[np.abs(rights - right) < 0.01].min()
            assert there < 1.06 * away[np.abs(rights) < 0.8].min()
            sizes.append(32 * (33 ** state["seen_distance"] - 1) / there)
        assert state["nearest_distance"] <= state["seen_distance"]
    env.close(), plain.close()
    assert len(sizes) > 200
    # heights are whole pixels
    assert np.ptp(sizes) < 0.15 * np.median(sizes)
