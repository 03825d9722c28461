"""A run trains, evaluates, and goes on after an interruption as if there had been none."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.jobs import Stopped
from agents.learning.on_policy import A2CSettings, PPOSettings
from agents.run.config import EvaluationConfig
from agents.run.training import train_agent
from foundation.errors import UserError
from foundation.files import exclusive_lock
from foundation.minerl import GAME_ERROR
from tests.fixtures.agents import BrightWorld


def go_on(steps: int, note: str) -> bool:
    return False


def stop_at(limit: int):
    return lambda steps, note: steps >= limit


def weights(folder):
    return torch.load(folder / "resume.pt", weights_only=True)["parameters"]["policy"]


def lines(folder):
    timed = ("seconds", "steps_per_second")
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in read]


def test_a_finished_run_leaves_an_agent_and_its_result(small_run) -> None:
    config = small_run()
    result = train_agent(config, go_on)
    assert result["steps"] == 128
    assert len(result["final_returns"]) == 3
    assert [point["step"] for point in result["curve"]] == [64, 128]
    for name in ("agent.safetensors", "agent.json", "agent.zip", "resume.pt", "config.yaml", "pictures/episode.png"):
        assert (config.run / name).stat().st_size > 0


def test_an_interrupted_run_ends_with_the_same_bits(small_run, tmp_path) -> None:
    whole = small_run(run=tmp_path / "whole")
    train_agent(whole, go_on)
    broken = small_run(run=tmp_path / "broken")
    for limit in (32, 96):
        with pytest.raises(Stopped):
            train_agent(broken, stop_at(limit))
    train_agent(broken, go_on)
    for name, expected in weights(whole.run).items():
        assert torch.equal(weights(broken.run)[name], expected), name
    assert lines(broken.run) == lines(whole.run)


def test_work_after_the_last_checkpoint_is_not_counted_twice(small_run, tmp_path) -> None:
    whole = small_run(run=tmp_path / "whole")
    train_agent(whole, go_on)
    killed = small_run(run=tmp_path / "killed", checkpoint_every=64)

    def die(steps: int, note: str) -> bool:
        if steps >= 96:
            raise MemoryError
        return False

    with pytest.raises(MemoryError):
        train_agent(killed, die)
    train_agent(killed, go_on)
    assert lines(killed.run) == lines(whole.run)


def test_more_steps_go_on_from_a_finished_run(small_run) -> None:
    config = small_run(steps=64)
    train_agent(config, go_on)
    assert train_agent(small_run(steps=96), go_on)["steps"] == 96
    training = [line["step"] for line in lines(config.run) if "episodes" in line]
    assert training == [32, 64, 96]


def test_a_finished_run_with_more_steps_is_evaluated_where_an_unbroken_one_is(small_run, tmp_path) -> None:
    evaluation = EvaluationConfig(every=30, episodes=1, final_episodes=1)
    changes = {"algorithm": A2CSettings(n_envs=2, n_steps=4, net_arch=(8,)), "evaluation": evaluation}
    whole = train_agent(small_run(steps=200, run=tmp_path / "whole", **changes), go_on)
    # 72 is no multiple of 32, after which a run looks around
    train_agent(small_run(steps=72, **changes), go_on)
    extended = train_agent(small_run(steps=200, **changes), go_on)
    steps, unbroken = ([point["step"] for point in result["curve"]] for result in (extended, whole))
    assert unbroken == [32, 64, 96, 128, 160, 192, 200]
    assert steps == sorted({*unbroken, 72})


def test_episodes_that_a_dying_game_cuts_off_do_not_enter_the_mean_return(small_run, monkeypatch) -> None:
    step = BrightWorld.step

    def dying(world, action):
        observation, reward, terminated, truncated, info = step(world, action)
        # every second episode, at once
        if len(world.seeds) % 2 == 0:
            return observation, -1000.0, False, True, {**info, GAME_ERROR: "it died"}
        return observation, reward, terminated, truncated, info

    monkeypatch.setattr(BrightWorld, "step", dying)
    config = small_run()
    train_agent(config, go_on)
    found = [line for line in lines(config.run) if "rollout/return" in line]
    assert found
    assert all(line["rollout/return"] > -100 for line in found)


def test_a_finished_run_is_left_alone(small_run) -> None:
    config = small_run()
    result = train_agent(config, go_on)
    before = (config.run / "resume.pt").stat().st_mtime_ns
    assert train_agent(config, go_on) == result
    assert (config.run / "resume.pt").stat().st_mtime_ns == before


def test_a_lost_result_is_written_again_without_evaluating_twice(small_run) -> None:
    config = small_run()
    result = train_agent(config, go_on)
    before = lines(config.run)
    (config.run / "result.json").unlink()
    assert train_agent(config, go_on)["curve"] == result["curve"]
    assert lines(config.run) == before


def test_metrics_that_went_missing_are_named_and_not_filled_up(small_run) -> None:
    with pytest.raises(Stopped):
        train_agent(small_run(), stop_at(64))
    (small_run().run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl: shorter"):
        train_agent(small_run(), go_on)


def test_other_settings_are_refused_by_name(small_run) -> None:
    train_agent(small_run(), go_on)
    with pytest.raises(UserError, match="seed = 0, but you asked for 1"):
        train_agent(small_run(seed=1, steps=500), go_on)
    with pytest.raises(UserError, match=r"environment\.frame_skip"):
        changed = small_run(steps=500)
        changed.environment.frame_skip = 2
        train_agent(changed, go_on)


def test_an_encoders_folder_is_not_written_over(small_run) -> None:
    config = small_run()
    config.run.mkdir()
    for name in ("encoder.json", "metrics.jsonl", "config.yaml"):
        (config.run / name).write_text("the encoder's")
    with pytest.raises(UserError, match="holds an encoder"):
        train_agent(config, go_on)
    assert (config.run / "metrics.jsonl").read_text() == (config.run / "config.yaml").read_text() == "the encoder's"


def test_a_checkpoint_of_something_else_is_named(small_run) -> None:
    config = small_run()
    config.run.mkdir()
    torch.save({"format": 1, "weights": {}}, config.run / "resume.pt")
    with pytest.raises(UserError, match="of no agent"):
        train_agent(config, go_on)


@pytest.mark.parametrize(("side", "fits"), [(35, False), (36, True)])
def test_pictures_too_small_for_the_cnn_are_named(side: int, fits: bool) -> None:
    class Small(gymnasium.Env):
        observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        action_space = spaces.Discrete(2)

    def make():
        return PPOSettings(n_envs=1, n_steps=16, batch_size=16).make(DummyVecEnv([Small]), 0, "cpu")

    if fits:
        make()
    else:
        with pytest.raises(UserError, match="sides of at least 36"):
            make()


def test_a_second_process_is_refused(small_run, monkeypatch) -> None:
    monkeypatch.setattr("agents.run.attempts._DYING_SECONDS", 0.3)
    config = small_run()
    with exclusive_lock(config.run, "training an agent"), pytest.raises(UserError, match="another process"):
        train_agent(config, go_on)


def test_a_pickle_in_place_of_a_checkpoint_is_refused(small_run) -> None:
    import pickle

    config = small_run()
    config.run.mkdir()
    (config.run / "resume.pt").write_bytes(pickle.dumps({"format": 1, "position": print}))
    with pytest.raises(UserError, match=r"resume\.pt"):
        train_agent(config, go_on)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_gpu_is_an_error(small_run) -> None:
    with pytest.raises(UserError, match="cuda"):
        train_agent(small_run(device="cuda"), go_on)


def test_training_never_sees_an_evaluation_world(small_run, worlds) -> None:
    train_agent(small_run(), go_on)
    training = {seed for world in worlds.made[:2] for seed in world.seeds}
    evaluated = {seed for world in worlds.made[2:] for seed in world.seeds}
    assert all(seed < 2**30 for seed in training)
    assert evaluated
    assert all(seed >= 2**30 for seed in evaluated)


def test_options_of_the_evaluation_hold_in_its_worlds_alone(small_run, worlds) -> None:
    evaluation = EvaluationConfig(every=64, episodes=2, final_episodes=3, environment={"episode_ticks": 20})
    result = train_agent(small_run(evaluation=evaluation), go_on)
    assert [world.episode_ticks for world in worlds.made[:2]] == [60, 60]
    assert {world.episode_ticks for world in worlds.made[2:]} == {20}
    assert len(result["final_returns"]) == 3
    with pytest.raises(UserError, match=r"evaluation.environment.episode_ticks = 20, but you asked for None"):
        train_agent(small_run(), go_on)
