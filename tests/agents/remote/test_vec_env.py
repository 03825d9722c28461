"""Remote environments give what local ones give; actors that die are replaced, and each death is counted once."""

import json
import os
import signal
import sys
import time
from collections import Counter

import gymnasium
import numpy as np
import pytest
import ray
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.jobs import Stopped
from agents.learning.on_policy import PPOSettings
from agents.remote.config import RemoteConfig
from agents.remote.latents import ArrivingLatent
from agents.remote.restarts import RESTARTS
from agents.remote.vec_env import RayVecEnv
from agents.run.checkpoint import read_checkpoint, restore_checkpoint, save_checkpoint
from agents.run.config import AgentRun, EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.episodes import Episodes
from agents.run.evaluation import play_episodes
from agents.run.position import Position
from agents.run.training import train_agent
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from foundation.local_ray import local_ray
from foundation.places import View, Views
from wrappers import FrozenEncoder, RemoteEncoder, SideBySide, StateObservation, VecHistory, VecLatent


class Noise(gymnasium.Env):
    """Random pictures; an episode ends, or is truncated, after 3 to 6 steps; an action of 3 takes half a second."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (64, 64, 3), np.uint8), "time": spaces.Box(0, 9, (1,), np.float32)})
    action_space = spaces.Discrete(4)
    render_mode = "rgb_array"
    noted = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.last = 0, int(self.np_random.integers(3, 7))
        return self.look(), {"seed": seed, "options": options}

    def step(self, action):
        time.sleep(0.5 if action == 3 else 0)
        self.steps += 1
        ended = self.steps == self.last
        return self.look(), float(action), ended and self.last % 2 == 0, ended and self.last % 2 == 1, {"steps": self.steps}

    def look(self):
        self.picture = self.np_random.integers(0, 256, (64, 64, 3), np.uint8)
        return {"pov": self.picture, "time": np.array([self.steps], np.float32)}

    def render(self):
        return self.picture

    def action_masks(self):
        return np.arange(4) != self.steps % 4

    def fail(self):
        raise UserError("the user can mend this")


class Saved(Noise):
    """One whose state can be kept and put back."""

    def save_state(self):
        random = json.dumps(self.np_random.bit_generator.state).encode()
        return {"random": np.frombuffer(random, np.uint8).copy(), "steps": np.array([self.steps, self.last])}

    def restore_state(self, state):
        self.np_random.bit_generator.state = json.loads(bytes(state["random"]))
        self.steps, self.last = (int(one) for one in state["steps"])


class Fails(Noise):
    def __init__(self):
        raise UserError("there is no such world")


def factory(index, world=Noise):
    return lambda counts: Episodes(world(), lambda episode: 100 * index + episode, counts)


class Telling(Noise):
    """One that tells how far its episode is."""

    state_space = spaces.Dict({"gone": spaces.Box(0, 1, ()), "left": spaces.Box(0, 1, ())})

    def reset(self, **options):
        return self.telling(super().reset(**options))

    def step(self, action):
        return self.telling(super().step(action))

    def telling(self, seen):
        seen[-1]["state"] = {"left": 1 - self.steps / self.last, "gone": self.steps / self.last}
        return seen


@pytest.fixture(scope="module", autouse=True)
def cluster():
    torch.set_num_threads(1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with local_ray(2):
        yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def frozen_folder(tmp_path_factory):
    """Return the folder of a tiny untrained encoder."""
    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    folder = tmp_path_factory.mktemp("encoder")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, folder, store=store, seed=0)
    return folder


@pytest.fixture(scope="module")
def frozen(frozen_folder):
    return FrozenEncoder(frozen_folder)


def make(count=4, actors=2, world=Noise, **options):
    return RayVecEnv([factory(index, world) for index in range(count)], actors, backoff_seconds=0.01, **options)


@pytest.fixture(scope="module")
def shared(cluster):
    """Return four environments in two actors, which every test that does without its own begins anew."""
    venv = make(world=Saved)
    yield venv
    venv.close()


@pytest.fixture
def remote(shared):
    shared.set_attr("noted", 0.0)
    shared.env_method("start_over", repeats=0)
    return shared


def local(count=4):
    venv = DummyVecEnv([lambda index=index: factory(index)({}) for index in range(count)])
    venv.env_method("start_over", repeats=0)
    return venv


def restarts(venv):
    """Return how often the environments have died, and how many resets failed."""
    total = Counter()
    for one in venv.get_attr("restarts"):
        total.update(one)
    return total


def kill(venv, row):
    """Kill the actor of an environment: with SIGKILL, since an actor may still answer after `ray.kill`."""
    os.kill(venv.places()[row]["pid"], signal.SIGKILL)


def assert_equal(found, expected, tolerance=0.0):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        # what died before is the history of environments that tests share
        for key in expected.keys() - set(RESTARTS):
            assert_equal(found[key], expected[key], tolerance)
    elif isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other, tolerance)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    else:
        assert found == expected


def assert_same_steps(found, expected, steps=12, tolerance=0.0, late=()):
    actions, died = np.random.default_rng(0), restarts(found)
    assert_equal(found.reset(), expected.reset(), tolerance)
    for _ in range(steps):
        chosen = actions.integers(0, 3, expected.num_envs)
        chosen[list(late)] = 3
        one, other = found.step(chosen), expected.step(chosen)
        for mine, theirs in zip([*one[:3], *one[3]], [*other[:3], *other[3]], strict=True):
            assert_equal(mine, theirs, tolerance)
    assert restarts(found) == died


def test_remote_environments_give_what_local_ones_give(remote) -> None:
    expected = local()
    assert remote.observation_space == expected.observation_space
    assert remote.action_space == expected.action_space
    assert_same_steps(remote, expected)
    assert remote.reset_infos == expected.reset_infos
    assert remote.get_attr("steps") == expected.get_attr("steps")
    assert remote.get_attr("last", [2, 0]) == expected.get_attr("last", [2, 0])
    assert np.array_equal(remote.env_method("action_masks"), expected.env_method("action_masks"))
    assert (remote.has_attr("action_masks"), remote.has_attr("nothing")) == (True, False)
    assert remote.env_is_wrapped(Episodes) == [True] * 4
    assert np.array_equal(remote.get_images(), expected.get_images())
    assert np.array_equal(remote.render("rgb_array"), expected.render("rgb_array"))
    remote.set_attr("last", 9, 1)
    assert [last == 9 for last in remote.get_attr("last")] == [False, True, False, False]
    with pytest.raises(AttributeError):
        remote.get_attr("nothing")
    with pytest.raises(UserError, match="the user can mend this"):
        remote.env_method("fail")


def test_actors_keep_to_one_thread_and_see_no_gpu(remote) -> None:
    places = remote.places()
    assert [(one["threads"], one["cuda"]) for one in places] == [(1, "")] * 4
    assert len({one["pid"] for one in places}) == 2


def test_latents_have_the_bits_of_local_ones_in_whatever_order_results_come(remote, frozen) -> None:
    assert_same_steps(ArrivingLatent(remote, frozen), VecLatent(local(), frozen), steps=3, late=[0])


def test_actors_killed_or_stopped_at_work_are_replaced_and_each_death_counts_once(remote) -> None:
    remote.set_attr("noted", 0.2)
    before, deaths, begun = remote.reset(), [], []
    for turn, rows in enumerate(([0, 1], [2, 3], [0, 1])):
        pid = remote.places()[rows[0]]["pid"]
        was = remote.get_attr("restarts"), remote.get_attr("episode")
        if turn == 2:
            # it will hang, and not be waited for
            remote._groups[0].actor.timeout_seconds = 0.2
        remote.step_async(np.full(4, 3))
        ray.kill(remote.actors()[0]) if turn == 0 else os.kill(pid, signal.SIGKILL if turn == 1 else signal.SIGSTOP)
        observation, rewards, dones, infos = remote.step_wait()
        assert [row for row in range(4) if infos[row].get("actor_died")] == rows
        for row in rows:
            assert (dones[row], rewards[row], observation["time"][row]) == (True, 0, 0)
            assert infos[row]["TimeLimit.truncated"]
            assert np.array_equal(infos[row]["terminal_observation"]["pov"], before["pov"][row])
            deaths.append(remote.get_attr("restarts", row)[0]["deaths"] - was[0][row]["deaths"])
            begun.append(remote.get_attr("episode", row)[0] - was[1][row])
        before, _, dones, _ = remote.step(np.zeros(4, int))
        assert not dones[rows].any()
    # each death once, and the world after the one that was cut off
    assert deaths == begun == [1] * 6
    assert remote.replaced == 3
    assert remote.get_attr("noted") == [0.2] * 4


def test_a_death_found_between_two_steps_ends_the_episode_at_the_next(remote, frozen) -> None:
    venv = ArrivingLatent(remote, frozen)
    before = venv.reset()
    deaths = restarts(remote)
    kill(remote, 0)
    assert len(venv.env_method("action_masks")) == 4
    _, _, dones, infos = venv.step(np.zeros(4, int))
    assert dones[:2].all()
    assert np.array_equal(infos[1]["terminal_observation"]["latent"], before["latent"][1])
    assert not venv.step(np.zeros(4, int))[2][:2].any()
    assert restarts(remote) == deaths + Counter(deaths=2)


def test_no_episode_goes_on_from_a_checkpoint_in_which_its_actor_was_found_dead(remote, tmp_path) -> None:
    algorithm = PPOSettings(n_envs=4, n_steps=4, batch_size=4, net_arch=(8,)).make(remote, 0, "cpu")
    algorithm._last_obs = algorithm.env.reset()

    def starts():
        algorithm._last_episode_starts = np.zeros(4, bool)
        save_checkpoint(tmp_path, {"environment": {}, "algorithm": {}}, Position(), algorithm, [])
        restore_checkpoint(read_checkpoint(tmp_path), algorithm, tmp_path)
        return algorithm._last_episode_starts.tolist()

    assert starts() == [False] * 4
    kill(remote, 0)
    assert starts() == [True] * 4


def test_an_evaluation_plays_whole_episodes_of_its_worlds_whatever_dies(remote) -> None:
    def returns(venv, killed=()):
        calls = []

        def act(observation, starts):
            calls.append(None)
            if len(calls) in killed:
                kill(venv, 0)
            return np.ones(4, int)

        venv.set_options({"start_over": True})
        played = play_episodes(venv, act, 10, keep_pictures=True)
        return played.returns, played.lengths, np.array(played.pictures)

    expected = returns(local())
    assert_equal(returns(remote), expected)
    before = restarts(remote)
    # between two evaluations, so that the reset fails, and in the first episode
    kill(remote, 2)
    assert_equal(returns(remote, killed=[3]), expected)
    assert restarts(remote) == before + Counter(deaths=2, failed_resets=2)


def test_without_a_connection_steps_go_through_ray(frozen, monkeypatch, capsys) -> None:
    def refuse(address, key):
        raise ConnectionRefusedError("closed")

    monkeypatch.setattr("agents.remote.connection.connect", refuse)
    venv, expected = make(2, 1), local(2)
    assert_same_steps(venv, expected)
    told = capsys.readouterr().err
    assert (told.count("\n"), "(closed): using Ray calls instead" in told) == (1, True)
    monkeypatch.undo()
    kill(venv, 0)
    assert venv.step(np.zeros(2, int))[2].all()
    venv.close()


def test_latents_encoded_by_an_actor_are_those_of_the_learner(frozen) -> None:
    venv, expected = make(2, 1, frozen=frozen), VecLatent(local(2), frozen)
    assert_same_steps(venv, expected, tolerance=1e-5)
    venv.close()


def test_encoders_side_by_side_with_a_history_are_the_same_over_actors_and_in_them(remote, frozen, frozen_folder) -> None:
    pair = SideBySide([frozen, FrozenEncoder(frozen_folder, scale="whiten")])
    arriving = VecHistory(ArrivingLatent(remote, pair), 2)
    assert_same_steps(arriving, VecHistory(VecLatent(local(), pair), 2), steps=3, late=[0])
    venv, expected = VecHistory(make(2, 1, frozen=pair), 3), VecHistory(VecLatent(local(2), pair), 3)
    assert_same_steps(venv, expected, tolerance=1e-5)
    assert venv.encoder_state().keys() == expected.encoder_state().keys()
    venv.close()


def test_a_service_gives_the_same_latents_to_the_learner_and_to_actors_that_share_it(remote, frozen, frozen_folder, serve) -> None:
    there = RemoteEncoder(serve(frozen_folder).address())
    assert_same_steps(ArrivingLatent(remote, there), VecLatent(local(), frozen), steps=3, late=[0])
    venv = make(2, 2, frozen=there)
    assert_same_steps(venv, VecLatent(local(2), there), tolerance=1e-5)
    venv.close()


def test_an_oracle_is_told_the_same_by_an_actor() -> None:
    def told(index):
        return lambda counts: StateObservation(factory(index, Telling)(counts))

    venv, expected = RayVecEnv([told(0), told(1)], 1), DummyVecEnv([lambda index=index: told(index)({}) for index in range(2)])
    assert_same_steps(venv, expected)
    assert venv.env_method("can_restore") == [False] * 2
    venv.close()


def test_seeds_and_options_hold_for_one_reset_and_a_death_beyond_the_budget_ends_in_an_error() -> None:
    venv = RayVecEnv([lambda counts: Noise()] * 2, 1, replacements=0)
    venv.seed(7)
    venv.set_options([{"far": index} for index in range(2)])
    venv.reset()
    assert venv.reset_infos == [{"seed": 7 + index, "options": {"far": index}} for index in range(2)]
    venv.reset()
    assert venv.reset_infos == [{"seed": None, "options": None}] * 2
    kill(venv, 0)
    with pytest.raises(UserError, match=r"environments 0 to 1 died .* after 0 replacements, the limit.*--remote.replacements"):
        venv.step(np.zeros(2, int))
    venv.close()


def test_what_cannot_start_is_named() -> None:
    with pytest.raises(UserError, match="there is no such world"):
        make(1, 1, world=Fails)
    with pytest.raises(UserError, match=r"from 1 to the number of environments, 3, got 4"):
        make(3, 4)
    with pytest.raises(UserError, match=r"21 environment actors ask Ray for 0\.1 CPUs each, and \S+ of its 2 are free"):
        make(21, 21)


@pytest.mark.extended
def test_a_remote_run_that_was_stopped_ends_with_the_bits_of_a_local_one(frozen_folder, tmp_path, monkeypatch) -> None:
    def with_episodes(config, reported, seed_of, told, oracle, counts):
        return Episodes(Saved(), seed_of, counts)

    monkeypatch.setattr("agents.run.environment._with_episodes", with_episodes)

    def run(name, actors):
        return AgentRun(
            environment=EnvironmentConfig(name="Noise", history=2),
            evaluation=EvaluationConfig(every=32, episodes=1, final_episodes=2),
            algorithm=PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(8,)),
            remote=RemoteConfig(actors=actors),
            steps=64,
            device="cpu",
            encoder=Views((View(frozen_folder), View(frozen_folder, None, "global"))),
            run=tmp_path / name,
        )

    expected = train_agent(run("local", 0), lambda steps, note: False)
    with pytest.raises(Stopped):
        train_agent(run("remote", 1), lambda steps, note: steps >= 32)
    result = train_agent(run("remote", 1), lambda steps, note: False)
    found, wanted = (torch.load(tmp_path / name / "resume.pt", weights_only=True)["parameters"]["policy"] for name in ("remote", "local"))
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert result["final_returns"] == expected["final_returns"]
    assert (result["remote"]["actors"], result["deaths"], expected["remote"]) == (1, 0, None)
