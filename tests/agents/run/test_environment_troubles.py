"""Environments that never end, raise, warn, or import: said in one line that names what the user can change."""

import json
import pickle
import warnings
from dataclasses import replace
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.playing import play
from agents.run.agent_files import read_agent
from agents.run.config import AgentRun, EvaluationConfig, completed, plain
from agents.run.environment import check_environment, training_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.episodes import evaluation_seed, training_seed
from agents.run.evaluation import Evaluation, play_random
from agents.run.identity import refuse_differences
from agents.run.options import read_command
from agents.run.training import train_agent
from agents.running import run_agent
from comparison.players import PlayerRun, play_player
from envs import episode_limit
from envs.failures import EnvironmentFailed
from envs.reward_size import tell_of_large_values
from foundation import telling
from foundation.errors import UserError
from frames.rollouts import record
from wrappers import FrameSkip


class Endless(gymnasium.Env):
    """Never over; +1 for every tick. In the world `bad` the tick `fails_at` raises, and `warns` says something each time."""

    observation_space, action_space = spaces.Dict({"pov": spaces.Box(0, 255, (64, 64, 3), np.uint8)}), spaces.Discrete(2)
    bad, fails_at, warns = None, 0, False

    def reset(self, *, seed=None, options=None):
        self.world, self.ticks = seed, 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.ticks += 1
        if self.warns:
            gymnasium.logger.warn("the obs is %s", "too bright")
        if self.world == self.bad and self.ticks == self.fails_at:
            raise ZeroDivisionError("no ground\nbelow")
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.fixture
def endless(worlds, monkeypatch):
    monkeypatch.setattr("envs.make_env", lambda name, **options: Endless(), raising=False)
    torch.set_num_threads(1)
    return EnvironmentConfig(name="Endless-v0", frame_skip=4)


@pytest.fixture
def told(monkeypatch):
    """Return the lines that the user is told."""
    lines: list[str] = []
    monkeypatch.setattr(telling, "_receiver", lines.append)
    monkeypatch.setattr(telling, "_told", set())
    with warnings.catch_warnings():
        yield lines


@pytest.mark.parametrize(("limit", "steps"), [(8, 2), (9, 3), (1, 1)])
def test_a_limit_truncates_episodes_in_whole_agent_steps(endless, told, limit, steps) -> None:
    endless.episode_steps = limit
    venv = training_environments(endless, 2, 0, None)
    venv.reset()
    for step in range(1, 2 * steps + 1):
        _, _, dones, infos = venv.step(np.zeros(2, int))
        assert dones.tolist() == [step % steps == 0] * 2
        assert infos[0]["TimeLimit.truncated"] == (step % steps == 0)
    assert infos[0]["episode"]["r"] == 4.0 * steps
    assert play_random(endless, 3, seed=0).lengths == [steps] * 3
    assert told == []


def test_agents_learn_from_scaled_rewards_and_returns_are_told_as_they_are(endless, told) -> None:
    endless.episode_steps, endless.reward_scale = 8, 0.125
    venv = training_environments(endless, 1, 0, None)
    venv.reset()
    assert [venv.step(np.zeros(1, int))[1].tolist() for _ in range(2)] == [[0.5], [0.5]]
    assert play_random(endless, 1, seed=0).returns == [8.0]
    with pytest.raises(UserError, match="'reward_scale' must be at least 1e-06, got 0"):
        EnvironmentConfig("Endless-v0", reward_scale=0)


def test_rewards_that_are_too_large_to_learn_from_are_said_once_with_a_scale_that_fits(endless, told, small_run) -> None:
    # +4 a step: 400 over 100 steps
    endless.episode_steps = 4 * 100
    tell_of_large_values("Endless-v0", [{"r": 400.0, "l": 100}], 1.0)
    said = "Endless-v0: rewards come to values beyond 100, whose errors drown what a policy learns from; "
    assert told == [f"{said}--environment.reward-scale 0.01 would bring them below 10"]
    tell_of_large_values("Endless-v0", [{"r": -90_000.0, "l": 1000}, {"r": -90_000.0, "l": 1000}], 1.0)
    assert told[1:] == [f"{said}--environment.reward-scale 0.001 would bring them below 10"]
    # a short episode's return is all there is to come; few rewards, scaled ones, no episode and no number say nothing
    tell_of_large_values("Endless-v0", [{"r": 90.0, "l": 1}], 1.0)
    for quiet in ([{"r": 900.0, "l": 1000}], [], [{"r": float("nan"), "l": 3}]):
        tell_of_large_values("Endless-v0", quiet, 1.0)
    tell_of_large_values("Endless-v0", [{"r": 400.0, "l": 100}], 0.01)
    assert len(told) == 2


def test_a_run_says_it(endless, told, small_run) -> None:
    endless.episode_steps = 4 * 32
    dear = replace(endless, reward_scale=10.0)
    train_agent(small_run(environment=dear, control="pixels", encoder=None), lambda *_: False)
    assert [line for line in told if "reward-scale" in line] == [
        "Endless-v0: rewards come to values beyond 100, whose errors drown what a policy learns from; "
        "--environment.reward-scale 0.01 would bring them below 10"
    ]


def test_without_any_limit_it_is_said_at_once_and_again_when_an_episode_is_cut(endless, told, monkeypatch, small_run) -> None:
    monkeypatch.setattr(episode_limit, "MOST_TICKS", 40)
    check_environment(endless, small_run().algorithm)
    said = "Endless-v0 names no limit on an episode's steps: an episode ends after 40 ticks; --environment.episode-steps N sets another"
    assert told == [said]
    assert play_random(endless, 3, seed=0).returns == [40.0] * 3
    cut = "Endless-v0: an episode was cut off after 40 ticks; --environment.episode-steps N sets another limit"
    assert told == [said, cut]


@pytest.mark.parametrize(
    ("spec", "own", "limited"),
    [
        (SimpleNamespace(max_episode_steps=500, kwargs={}), None, True),
        (SimpleNamespace(max_episode_steps=None, kwargs={"max_num_frames_per_episode": 108_000}), None, True),
        (SimpleNamespace(max_episode_steps=None, kwargs={}), None, False),
        (None, 80, True),
        (None, None, False),
    ],
)
def test_an_environments_own_limit_is_enough(endless, spec, own, limited) -> None:
    env = Endless()
    env.spec, env.episode_ticks = spec, own
    assert (episode_limit.episode_limit(env, endless.name, None) is None) == limited


def test_a_limit_that_an_environment_was_registered_with_is_seen_through_wrappers() -> None:
    env = FrameSkip(gymnasium.make("CartPole-v1"), 2)
    assert env.unwrapped.spec.max_episode_steps is None
    assert episode_limit.episode_limit(env, "CartPole-v1", None) is None
    env = FrameSkip(gymnasium.make("CartPole-v1", max_episode_steps=-1), 2)
    assert episode_limit.episode_limit(env, "CartPole-v1", None) is not None


def test_a_limit_that_is_not_set_leaves_the_players_of_finished_comparisons_where_they_are() -> None:
    from comparison.grid import _as_played, _hash

    old = {"name": "A", "options": {"episode_ticks": 80}, "frame_skip": 4, "action_store": None}
    assert _hash(_as_played({**old, "episode_steps": None})) == _hash(_as_played_before(old))
    assert _hash(_as_played({**old, "episode_steps": 9})) != _hash(_as_played_before(old))
    # players learn nothing from rewards
    assert _hash(_as_played({**old, "episode_steps": None, "reward_scale": 0.01})) == _hash(_as_played_before(old))


def test_a_run_that_was_started_before_there_was_a_limit_goes_on(small_run) -> None:
    now = plain(small_run())
    before = {**now, "environment": {key: value for key, value in now["environment"].items() if key != "episode_steps"}}
    refuse_differences(completed(before), now, small_run().run)
    with pytest.raises(UserError, match=r"environment.episode_steps = None, but"):
        refuse_differences(completed(before), plain(small_run(environment=EnvironmentConfig("Bright", episode_steps=9))), small_run().run)


def _as_played_before(environment):
    return {**environment, "action_store": None}


def test_an_error_in_training_names_environment_world_and_step_and_leaves_the_traceback(endless, told, small_run, monkeypatch) -> None:
    config = small_run(environment=endless)
    monkeypatch.setattr(Endless, "bad", training_seed(config.seed, 1, 0))
    monkeypatch.setattr(Endless, "fails_at", 10)
    with pytest.raises(EnvironmentFailed) as caught:
        train_agent(config, lambda steps, note: False)
    message = str(caught.value)
    place = f"Endless-v0 failed in world {Endless.bad} at agent step 3 of the episode"
    assert message.startswith(f"{place}: ZeroDivisionError: no ground below (")
    assert "\n" not in message
    log = config.run / "environment_error.log"
    assert message.endswith(f"the traceback is in {log}")
    assert "in step\n    raise ZeroDivisionError" in log.read_text()


def test_an_error_of_a_player_that_does_not_learn_is_logged_too(endless, told, monkeypatch, tmp_path, small_run) -> None:
    monkeypatch.setattr(Endless, "bad", evaluation_seed(0))
    monkeypatch.setattr(Endless, "fails_at", 1)
    run = PlayerRun("random", endless, 2, 0, tmp_path / "random", small_run().remote)
    with pytest.raises(EnvironmentFailed, match=rf"world {evaluation_seed(0)} at agent step 1 .*{run.run}"):
        play_player(run, lambda steps, note: False)
    assert "ZeroDivisionError" in (run.run / "environment_error.log").read_text()


def test_a_failure_survives_the_way_from_an_actor() -> None:
    failure = pickle.loads(pickle.dumps(EnvironmentFailed("A failed", "Traceback", may_pass=True)))
    assert (str(failure), failure.details, failure.may_pass) == ("A failed", "Traceback", True)


@pytest.mark.parametrize(("error", "may_pass"), [(ConnectionError("gone"), True), (ValueError("bad"), False)])
def test_only_a_file_or_a_connection_that_failed_is_worth_another_attempt(error, may_pass) -> None:
    with pytest.raises(type(error)) as caught:
        raise error
    assert EnvironmentFailed.of(caught.value, "A", "world 1").may_pass == may_pass


def test_what_is_warned_of_in_many_environments_is_told_once(endless, told, monkeypatch) -> None:
    monkeypatch.setattr(Endless, "warns", True)
    endless.episode_steps = 20
    evaluation = Evaluation(endless, None, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        telling.tell_through(telling.receiver())
        evaluation.play(lambda *_: np.zeros(4, int), 4)
    assert told == ["gymnasium warns: the obs is too bright"]


def test_a_shared_agent_imports_nothing_that_its_player_did_not_ask_for(endless, told, small_run, tmp_path, capsys) -> None:
    endless.name, endless.episode_steps = "worlds.far:Endless-v0", 20
    config = small_run(environment=endless, steps=32)
    train_agent(config, lambda steps, note: False)
    assert read_agent(config.run)["settings"]["environment"]["name"] == endless.name
    with pytest.raises(UserError, match=r"imports the Python module 'worlds.far'.*add --environment worlds.far:Endless-v0$"):
        play([str(config.run)])
    with pytest.raises(UserError, match=r"--environment near:Endless-v0: the agent in .* was trained in worlds.far:Endless-v0"):
        play([str(config.run), "--environment", "near:Endless-v0"])
    play([str(config.run), "--environment", endless.name])
    assert "return 20.00 in 5 steps" in capsys.readouterr().out


def test_a_runs_settings_as_a_preset_import_nothing_that_was_not_asked_for_either(endless, told, small_run, tmp_path) -> None:
    endless.name, endless.episode_steps = "worlds.far:Endless-v0", 20
    config = small_run(environment=endless, steps=32)
    train_agent(config, lambda steps, note: False)
    words = [str(config.run / "config.yaml"), "--run", str(tmp_path / "again")]
    with pytest.raises(UserError, match=r"config.yaml: .* add --environment.name worlds.far:Endless-v0$"):
        read_command(AgentRun, "", words)
    assert read_command(AgentRun, "", [*words, "--environment.name", endless.name]).environment == endless
    with pytest.raises(UserError, match=r"config.yaml: .* add --environment worlds.far:Endless-v0$"):
        play([words[0], "--player", "random"])
    own = tmp_path / "mine.yaml"
    own.write_text((config.run / "config.yaml").read_text())
    assert read_command(AgentRun, "", [str(own), *words[1:]]).environment == endless


def test_an_agent_of_an_environment_of_ours_is_played_as_before(endless, told, small_run, capsys) -> None:
    endless.episode_steps = 20
    config = small_run(environment=endless, steps=32)
    train_agent(config, lambda steps, note: False)
    play([str(config.run)])
    assert "in 5 steps" in capsys.readouterr().out


class Wordy(Endless):
    """Ends after 4 ticks, and has words of its own in `info`, which a game of MineRL's and Stable-Baselines3 use for something else."""

    def step(self, action):
        observation, reward, *_ = super().step(action)
        return observation, reward, self.ticks == 4, False, {"error": np.zeros(2), "episode": 7, "again": True}


def test_another_packages_error_or_episode_is_neither_a_death_nor_a_return(endless, monkeypatch, small_run, tmp_path) -> None:
    monkeypatch.setattr("envs.make_env", lambda name, **options: Wordy(), raising=False)
    assert Evaluation(endless, None, 2).play(lambda *_: np.zeros(2, int), 6).returns == [4.0] * 6
    config = small_run(environment=replace(endless, frame_skip=2))
    train_agent(config, lambda steps, note: False)
    written = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    # 128 agent steps, and 2 an episode
    assert {line["rollout/return"] for line in written if "rollout/return" in line} == {4.0}
    assert max(line.get("episodes", 0) for line in written) == 64
    summary = record(Wordy, None, tmp_path / "store", frames=20, frame_size=(16, 16))
    assert summary.frames == 20


def test_a_wrong_option_of_evaluations_worlds_is_refused_before_ray_starts(endless, monkeypatch, small_run, tmp_path) -> None:
    def make(name, **options):
        if "palette" in options:
            raise UserError("no option 'palette'")
        return Endless()

    monkeypatch.setattr("envs.make_env", make, raising=False)
    monkeypatch.setattr("agents.running.ray_cluster", lambda *_: pytest.fail("Ray was started"))
    evaluation = EvaluationConfig(every=64, episodes=2, final_episodes=3, environment={"palette": "dry"})
    with pytest.raises(UserError, match="no option 'palette'"):
        run_agent(small_run(environment=endless, evaluation=evaluation))
    assert not (tmp_path / "run").exists()
