import weakref
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest

from foundation.errors import UserError
from foundation.seeds import FIRST_EVALUATION_SEED
from frames import FrameStore, RandomPlayer, record
from frames.looking.inspecting import verify


class Corridor(gymnasium.Env):
    """Walk along a corridor whose pictures tell seed, tick and last action; it ends after `length` ticks."""

    def __init__(self, length: int = 1000) -> None:
        self.length = length
        self.observation_space = gymnasium.spaces.Dict(
            {"pov": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8), "compass": gymnasium.spaces.Box(0, 1, ())}
        )
        self.action_space = gymnasium.spaces.Dict(
            {"camera": gymnasium.spaces.Box(-180, 180, (2,)), "forward": gymnasium.spaces.Discrete(2)}
        )
        # one array for all pictures, as fast environments do
        self.picture = np.zeros((8, 8, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.tick, self.shade = 0, int(self.np_random.integers(256))
        return self.observe(0), {"tick": 0}

    def step(self, action):
        self.tick += 1
        return self.observe(int(action["forward"])), float(self.tick), self.tick >= self.length, False, {"tick": self.tick}

    def observe(self, forward: int) -> dict[str, Any]:
        self.picture[:] = (self.shade, self.tick % 256, forward)
        return {"pov": self.picture, "compass": {"angle": np.float32(self.tick)}}


class Steady:
    """Walks forward every other tick."""

    def reset(self, seed: int) -> None:
        pass

    def __call__(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        return {"camera": np.array([info["tick"], 0], np.float32), "forward": info["tick"] % 2}


def rollouts(path, player=None, make_env=Corridor, **options):
    return record(make_env, player, path, **{"frames": 100, "episode_frames": 30, "frame_size": (8, 8), **options})


@pytest.mark.parametrize(("metadata", "rate"), [({"render_fps": 35}, 35.0), ({}, 20.0), ({"render_fps": None}, 20.0)])
def test_a_recording_has_the_rate_that_its_environment_names(tmp_path, monkeypatch, capsys, metadata, rate):
    monkeypatch.setattr(Corridor, "metadata", metadata)
    rollouts(tmp_path / "store", name="corridors:Corridor-v0")
    assert {episode.frames_per_second for episode in FrameStore(tmp_path / "store").episodes} == {rate}
    assert ("corridors:Corridor-v0 names no frames a second" in capsys.readouterr().err) == (not metadata.get("render_fps"))
    rollouts(tmp_path / "other", frames_per_second=7.5)
    assert FrameStore(tmp_path / "other").frames_per_second == 7.5


def test_exactly_the_frames_asked_for_in_many_short_episodes(tmp_path):
    summary = rollouts(tmp_path / "store")
    store = FrameStore(tmp_path / "store")
    assert summary.frames == len(store) == 100
    assert [episode.length for episode in store.episodes] == [30, 30, 30, 10]
    assert {episode.split for episode in store.episodes} == {"train", "val"}
    assert verify(store) == []


def test_each_frame_shows_the_action_stored_as_having_led_to_it(tmp_path):
    rollouts(tmp_path / "store")
    store = FrameStore(tmp_path / "store")
    assert store.action_names == ("action.camera", "action.forward")
    starts = store.starts("all", 30)
    led = store.action_windows(starts, 30)[..., 2]
    assert np.array_equal(store.windows(starts, 30)[:, :, 0, 0, 2], led)
    assert 0 < led.mean() < 1


def test_rewards_and_other_observations_are_kept(tmp_path):
    rollouts(tmp_path / "store")
    store = FrameStore(tmp_path / "store")
    assert store.array(0, "reward").tolist() == list(range(1, 30))
    assert store.array(0, "observation.compass.angle").tolist() == list(range(30))


def test_the_same_seed_gives_the_same_store_and_another_seed_another(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        rollouts(tmp_path / name, [Steady(), None], seed=seed)
    one, same, other = (FrameStore(tmp_path / name) for name in ("one", "same", "other"))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.episodes == same.episodes


def test_players_take_turns(tmp_path):
    rollouts(tmp_path / "store", [Steady(), None])
    store = FrameStore(tmp_path / "store")
    assert [episode.name.split()[-1] for episode in store.episodes] == ["Steady", "random", "Steady", "random"]
    assert store.array(0, "action.forward").tolist() == [tick % 2 for tick in range(29)]


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="seed -1: must be 0 or more"):
        rollouts(tmp_path / "store", seed=-1)
    assert not list(tmp_path.iterdir())


def test_an_episode_that_ends_early_makes_room_for_another(tmp_path):
    summary = rollouts(tmp_path / "store", make_env=lambda: Corridor(9))
    assert [episode.length for episode in FrameStore(tmp_path / "store").episodes] == [10] * 10
    assert summary.frames == 100


def test_a_single_last_frame_does_not_cost_the_store_its_actions(tmp_path):
    rollouts(tmp_path / "store", frames=61)
    store = FrameStore(tmp_path / "store")
    assert store.action_windows([0, 60], 1).shape == (2, 1, 3)
    assert store.array(2, "reward").shape == (0,)


def test_an_interrupted_recording_goes_on_and_gives_the_same_store(tmp_path):
    class Tired(Steady):
        name = "Steady"

        def __call__(self, observation, info):
            if np.array_equal(observation["pov"][0, 0, :1], worn_out):
                raise KeyboardInterrupt
            return super().__call__(observation, info)

    rollouts(tmp_path / "whole", Steady())
    whole = FrameStore(tmp_path / "whole")
    worn_out = whole.frames([60])[0, 0, 0, :1]
    with pytest.raises(KeyboardInterrupt):
        rollouts(tmp_path / "store", Tired())
    with pytest.raises(UserError, match="still being written"):
        FrameStore(tmp_path / "store")
    with pytest.raises(UserError, match="made with seed = 0, not 1"):
        rollouts(tmp_path / "store", Steady(), seed=1)
    summary = rollouts(tmp_path / "store", Steady())
    assert (summary.kept, summary.decoded) == (2, 2)
    assert FrameStore(tmp_path / "store").episodes == whole.episodes
    assert rollouts(tmp_path / "store", Steady()).finished_before


def test_frames_of_another_size_are_resized(tmp_path):
    rollouts(tmp_path / "store", frame_size=(4, 4))
    assert FrameStore(tmp_path / "store").frames([0]).shape == (1, 4, 4, 3)


def test_random_actions_stick_and_turn_gently():
    space = Corridor().action_space
    player = RandomPlayer(space)
    player.reset(0)
    actions = [player(None, {}) for _ in range(4000)]
    changes = sum(not np.array_equal(a["camera"], b["camera"]) for a, b in pairwise(actions))
    assert 300 < changes < 800
    assert np.abs([action["camera"] for action in actions]).mean() < 10
    assert all(space.contains(action) for action in actions)


def test_frames_are_written_as_they_come(tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []

    class Picture(np.ndarray):
        """An array that can be watched."""

        __hash__ = object.__hash__

    def fit(frames, size, mode):
        picture = frames.view(Picture)
        alive.add(picture)
        most.append(len(alive))
        return picture

    monkeypatch.setattr("frames.rollouts.resize_frames", fit)
    rollouts(tmp_path / "store", frames=300, episode_frames=300)
    assert len(most) == 300
    assert max(most) < 40


def test_no_world_is_one_that_agents_are_judged_in(tmp_path):
    seeds = []

    class Watched(Corridor):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed)

    rollouts(tmp_path / "store", make_env=Watched, frames=40, episode_frames=1)
    assert len(set(seeds)) == 40
    assert max(seeds) < FIRST_EVALUATION_SEED


def test_where_an_environment_fails_the_episodes_before_are_kept(tmp_path):
    class Failing(Corridor):
        left = 70

        def step(self, action):
            Failing.left -= 1
            if Failing.left == 0:
                raise ConnectionError("Minecraft is\ngone")
            return super().step(action)

    with pytest.raises(UserError, match=r"at action 12 \(ConnectionError: Minecraft is gone\)"):
        rollouts(tmp_path / "store", Steady(), Failing)
    assert rollouts(tmp_path / "store", Steady(), Failing).kept == 2
    rollouts(tmp_path / "whole", Steady())
    assert FrameStore(tmp_path / "store").fingerprint == FrameStore(tmp_path / "whole").fingerprint


def test_an_episode_s_task_is_the_environment_s_id_or_what_is_said_to_be_recorded(tmp_path):
    class Registered(Corridor):
        spec = gymnasium.envs.registration.EnvSpec("Corridor-v3")

    rollouts(tmp_path / "store", make_env=Registered)
    assert {episode.task for episode in FrameStore(tmp_path / "store").episodes} == {"Corridor-v3"}
    rollouts(tmp_path / "unregistered", name="walks")
    assert {episode.task for episode in FrameStore(tmp_path / "unregistered").episodes} == {"walks"}


class Camera(Corridor):
    """Gives its picture under another name, and a second one if asked."""

    names = ("camera",)

    def observe(self, forward):
        seen = super().observe(forward)
        return {**dict.fromkeys(self.names, seen["pov"]), "compass": seen["compass"]}


def test_the_only_picture_of_an_observation_is_the_frame_whatever_its_name(tmp_path):
    rollouts(tmp_path / "store", Steady(), Camera)
    rollouts(tmp_path / "pov", Steady())
    stores = [FrameStore(tmp_path / name) for name in ("store", "pov")]
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].array(0, "observation.compass.angle").tolist() == list(range(30))


@pytest.mark.parametrize(("names", "message"), [((), "no RGB picture"), (("left", "right"), "several pictures .*'left'.*'right'")])
def test_an_observation_without_one_clear_picture_is_refused(tmp_path, names, message):
    class Other(Camera):
        pass

    Other.names = names
    with pytest.raises(UserError, match=message):
        rollouts(tmp_path / "store", make_env=Other)


class Mortal(Corridor):
    """Dies at tick 12 of every third episode: repeats the last picture, pays nothing, and says so."""

    episode = -1

    def reset(self, **options):
        self.episode += 1
        return super().reset(**options)

    def step(self, action):
        before = self.picture.copy()
        observation, reward, terminated, truncated, info = super().step(action)
        if self.episode % 3 == 2 and self.tick == 12:
            self.picture[:] = before
            return observation, 0.0, False, True, {"minerl/error": "the socket was closed"}
        return observation, reward, terminated, truncated, info


def test_the_episode_of_a_game_that_dies_is_kept_up_to_its_last_true_frame(tmp_path, capsys):
    summary = rollouts(tmp_path / "store", make_env=Mortal, frames=150)
    store = FrameStore(tmp_path / "store")
    assert [episode.length for episode in store.episodes] == [30, 30, 12, 30, 30, 12, 6]
    assert summary.frames == 150
    assert store.array(2, "reward").tolist() == list(range(1, 12))
    assert store.array(2, "action.forward").shape == (11,)
    assert store.windows([60], 12)[0, :, 0, 0, 1].tolist() == list(range(12))
    assert "an episode was cut short at frame 12: the socket was closed" in capsys.readouterr().err
    assert verify(store) == []


def test_a_game_that_dies_at_its_first_step_leaves_a_single_frame(tmp_path):
    class StillBorn(Corridor):
        def step(self, action):
            return self.observe(0), 0.0, False, True, {"minerl/error": "it never ran"}

    rollouts(tmp_path / "store", make_env=StillBorn, frames=4)
    assert [episode.length for episode in FrameStore(tmp_path / "store").episodes] == [1, 1, 1, 1]


def test_an_environment_that_never_starts_leaves_nothing_behind(tmp_path):
    class NeverStarts(Corridor):
        def reset(self, **options):
            raise UserError("it does not start")

    with pytest.raises(UserError, match="it does not start"):
        rollouts(tmp_path / "store", make_env=NeverStarts)
    assert not list(tmp_path.iterdir())
    assert rollouts(tmp_path / "store", name="another plan").frames == 100


class Words(gymnasium.spaces.Discrete):
    """MineRL's enumeration."""

    values = ("cobblestone", "dirt", "none")


class Many(Corridor):
    """Actions of every kind, choices that do not start at 0 among them."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Dict(
            {
                "forward": gymnasium.spaces.Discrete(2, start=1),
                "place": Words(3),
                "hands": gymnasium.spaces.Tuple((gymnasium.spaces.MultiBinary(2), gymnasium.spaces.Discrete(3, start=-1))),
            }
        )
        self.given: list[dict[str, Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        return super().reset(seed=seed)

    def step(self, action):
        self.given.append(action)
        return super().step(action)

    def observe(self, forward: int) -> dict[str, Any]:
        return {**super().observe(forward), "bag": tuple(range(self.tick % 3)), "note": (1, np.zeros(2))}


def test_actions_are_kept_as_the_environment_takes_them_words_for_enumerations(tmp_path):
    env = Many()
    rollouts(tmp_path / "store", make_env=lambda: env, frames=30)
    store = FrameStore(tmp_path / "store")
    expected = {
        "action.forward": [action["forward"] for action in env.given],
        "action.place": [Words.values[action["place"]] for action in env.given],
        "action.hands.0": [action["hands"][0] for action in env.given],
        "action.hands.1": [action["hands"][1] for action in env.given],
    }
    assert store.action_names == tuple(sorted(expected))
    for name, values in expected.items():
        np.testing.assert_array_equal(store.array(0, name), values)
    assert len(set(expected["action.place"])) > 1
    # what has another length every tick cannot be an array
    assert "observation.bag.0" not in store.episodes[0].arrays
    assert store.episodes[0].arrays["observation.note.1"].shape == (30, 2)


class Telling(Corridor):
    """A corridor of another package that tells its state, and which half of the picture shows what."""

    def reset(self, **options: Any):
        observation, _ = super().reset(**options)
        return observation, self.told()

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, self.told()

    def told(self) -> dict[str, Any]:
        return {"tick": self.tick, "state": {"way": self.tick / 100, "shade": self.shade / 255}}

    def segmentation(self) -> np.ndarray:
        kinds = np.full((8, 8), self.tick % 256, np.uint8)
        kinds[:, 4:] = 255
        return kinds


def test_state_and_segmentation_of_any_environment_are_recorded_on_request(tmp_path):
    rollouts(tmp_path / "store", Steady(), Telling, beside=("segmentation", "state"), frame_size=(4, 4))
    store = FrameStore(tmp_path / "store")
    for episode in store.episodes:
        np.testing.assert_allclose(store.array(episode, "observation.state.way"), np.arange(episode.length) / 100, rtol=1e-6)
        kinds = store.array(episode, "observation.segmentation")
        assert kinds.shape == (episode.length, 4, 4)
        assert np.array_equal(kinds[:, 2, 1], np.arange(episode.length))
        assert (kinds[:, :, 2:] == 255).all()
    assert not verify(store)


def test_nothing_is_recorded_beside_the_observations_unless_asked_for(tmp_path):
    rollouts(tmp_path / "store", Steady(), Telling)
    names = {name for episode in FrameStore(tmp_path / "store").episodes for name in episode.arrays}
    assert names == {"action.camera", "action.forward", "observation.compass.angle", "reward"}


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("state", r"tells no info\['state'\] to record; leave it out \(voxel tasks, .*, Pong and ViZDoom's HealthGathering have it\)"),
        ("segmentation", r"has no segmentation to record; leave it out \(voxel tasks have it\)"),
        ("segmentations", r"nothing called 'segmentations' can be recorded: did you mean 'segmentation'\?"),
    ],
)
def test_what_an_environment_does_not_offer_is_told_and_nothing_stays_behind(tmp_path, what, told):
    with pytest.raises(UserError, match=told):
        rollouts(tmp_path / "store", Steady(), beside=(what,))
    assert list(tmp_path.iterdir()) == []
