"""Every algorithm trains, plays, and goes on after a kill as if there had been none."""

import errno
import json
import os
import signal
from dataclasses import asdict

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.jobs import Stopped
from agents.learning.algorithms import BUILT_IN, build_algorithm, refuse_misfit
from agents.playing import play
from agents.run.config import EvaluationConfig
from agents.run.environment import check_environment, training_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.evaluation import Evaluation
from agents.run.training import train_agent
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from wrappers import DiscreteActions

# copies into the target network every five steps of two environments: no run here resumes right after one
REPLAY = {"buffer_size": 48, "learning_starts": 16, "batch_size": 4, "exploration_steps": 64, "target_update_interval": 10}
TINY = {
    "ppo": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    "a2c": {"n_steps": 4},
    "dqn": {**REPLAY, "n_steps": 3},
    "qrdqn": {**REPLAY, "n_quantiles": 3},
    "recurrent_ppo": {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "lstm_hidden_size": 4},
    "maskable_ppo": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    "sac": {key: REPLAY[key] for key in ("buffer_size", "learning_starts", "batch_size")},
    "td3": {key: REPLAY[key] for key in ("buffer_size", "learning_starts", "batch_size")},
}
CONTINUOUS = ("sac", "td3")


def go_on(steps: int, note: str) -> bool:
    return False


def tiny(kind: str, **changes):
    return build_algorithm({"kind": kind, "n_envs": 2, "net_arch": [8], **TINY[kind], **changes})


def lines(folder):
    timed = ("seconds", "steps_per_second")
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in read]


def assert_same_run(one, other) -> None:
    found, expected = (torch.load(folder / "resume.pt", weights_only=True)["parameters"]["policy"] for folder in (one, other))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert lines(one) == lines(other)


def die_at(limit: int):
    def report(steps: int, note: str) -> bool:
        if steps >= limit:
            raise MemoryError
        return False

    return report


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """Return the folder of a tiny untrained encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, folder, store=store, seed=0)
    return folder


@pytest.fixture
def latent_run(small_run, encoder):
    """Return a function that makes the settings of a run of one algorithm on latents: a boundary every 32 steps."""

    def make(kind: str, **changes):
        settings = {
            "environment": EnvironmentConfig(name="Bright", options={"episode_ticks": 20}, frame_skip=4, continuous=kind in CONTINUOUS),
            "evaluation": EvaluationConfig(every=32, episodes=1, final_episodes=2),
            "algorithm": tiny(kind),
            "control": None,
            "encoder": encoder,
            "steps": 96,
        }
        return small_run(**{**settings, **changes})

    return make


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not_and_plays_without_its_replay_buffer(
    kind, latent_run, tmp_path, capsys
) -> None:
    whole, broken = latent_run(kind, run=tmp_path / "whole"), latent_run(kind, run=tmp_path / "broken")
    result = train_agent(whole, go_on)
    with pytest.raises(MemoryError):
        train_agent(broken, die_at(64))
    assert train_agent(broken, go_on)["final_returns"] == result["final_returns"]
    assert_same_run(broken.run, whole.run)
    assert [line["step"] for line in lines(whole.run) if "episodes" in line] == [32, 64, 96]
    assert result["device"] == {"encoder": "cpu", "policy": "cpu"}
    assert play([str(broken.run), "--episodes", "2"]) == 0
    assert "mean return" in capsys.readouterr().out


def test_a_process_killed_outright_loses_only_what_came_after_its_checkpoint(latent_run, tmp_path) -> None:
    whole, killed = latent_run("dqn", run=tmp_path / "whole"), latent_run("dqn", run=tmp_path / "killed")
    train_agent(whole, go_on)
    child = os.fork()
    if child == 0:
        train_agent(killed, lambda steps, note: steps >= 64 and os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    train_agent(killed, go_on)
    assert_same_run(killed.run, whole.run)


def test_each_step_of_a_replay_buffer_is_written_once_and_the_overwritten_go(latent_run) -> None:
    config = latent_run("dqn", steps=64)
    train_agent(config, go_on)
    first = {path.name: path.stat().st_mtime_ns for path in (config.run / "replay").iterdir()}
    # rows hold a step of two environments, and the ring holds 24 rows
    assert sorted(first) == ["000000000000-000000000016.npz", "000000000016-000000000024.npz", "000000000024-000000000032.npz"]
    # as a process leaves it that was killed while it wrote
    (config.run / "replay" / ".000000000024-000000000032.npz.7.minerl-perception-half-written").write_bytes(b"half")
    train_agent(latent_run("dqn", steps=96), go_on)
    names = sorted(path.name for path in (config.run / "replay").iterdir())
    assert names == ["000000000024-000000000032.npz", "000000000032-000000000048.npz"]
    assert (config.run / "replay" / names[0]).stat().st_mtime_ns == first[names[0]]
    with np.load(config.run / "replay" / names[1], allow_pickle=False) as content:
        assert content["observations"].shape == (16, 2, 16)


def test_episodes_that_a_resumed_run_does_not_go_on_with_are_cut_in_its_buffer_for_good(latent_run) -> None:
    config = latent_run("dqn", steps=64)
    with pytest.raises(Stopped):
        train_agent(config, lambda steps, note: steps >= 32)
    saved = torch.load(config.run / "resume.pt", weights_only=True)
    saved["worlds"]["whole"] = False
    torch.save(saved, config.run / "resume.pt")
    train_agent(config, go_on)
    rows = {}
    for path in sorted((config.run / "replay").iterdir()):
        with np.load(path) as segment:
            rows.update(enumerate(zip(segment["dones"], segment["timeouts"], strict=True), int(path.name.partition("-")[0])))
    assert sorted(rows) == list(range(8, 32))
    # two environments: row 15 is the last before the stop
    dones, timeouts = rows[15]
    assert (np.maximum(dones, timeouts) == 1).all()
    assert not all((np.maximum(*rows[row]) == 1).all() for row in (13, 14, 16))


def test_a_full_disk_is_named_and_the_older_checkpoint_goes_on(latent_run, tmp_path, monkeypatch) -> None:
    whole, broken = latent_run("dqn", run=tmp_path / "whole"), latent_run("dqn", run=tmp_path / "broken")
    train_agent(whole, go_on)
    with monkeypatch.context() as patched:
        write, written = np.savez, []

        def fill_up(file, **arrays):
            written.append(len(arrays))
            if len(written) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(file, **arrays)

        patched.setattr(np, "savez", fill_up)
        with pytest.raises(UserError, match=r"\.npz: cannot be written .*free some space"):
            train_agent(broken, go_on)
    train_agent(broken, go_on)
    assert_same_run(broken.run, whole.run)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-200])])
def test_a_damaged_replay_buffer_is_named(latent_run, damage) -> None:
    with pytest.raises(Stopped):
        train_agent(latent_run("dqn"), lambda steps, note: steps >= 32)
    segment = next((latent_run("dqn").run / "replay").iterdir())
    damage(segment)
    with pytest.raises(UserError, match=rf"{segment.name}: steps of the replay buffer are missing or damaged"):
        train_agent(latent_run("dqn"), go_on)


def test_a_checkpoint_is_also_written_when_its_minutes_are_over(latent_run) -> None:
    config = latent_run("ppo", checkpoint_every=10_000, checkpoint_minutes=0.0)
    with pytest.raises(MemoryError):
        train_agent(config, die_at(96))
    assert torch.load(config.run / "resume.pt", weights_only=True)["counters"]["num_timesteps"] == 64


def test_tensorboard_has_every_point_once_however_often_a_run_dies(latent_run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = latent_run("a2c")
    for limit in (64, 96):
        with pytest.raises(MemoryError):
            train_agent(config, die_at(limit))
    train_agent(config, go_on)
    (config.run / "result.json").unlink()
    train_agent(config, go_on)
    events = EventAccumulator(str(config.run / "tensorboard")).Reload()
    for tag in ("evaluation/return", "rollout/return", "train/value_loss"):
        expected = [(line["step"], line[tag]) for line in lines(config.run) if tag in line]
        assert [point.step for point in events.Scalars(tag)] == [step for step, _ in expected], tag
        np.testing.assert_allclose([point.value for point in events.Scalars(tag)], [value for _, value in expected], rtol=1e-6)


def test_exploration_depends_on_the_steps_done_and_not_on_those_asked_for(latent_run) -> None:
    config = latent_run("dqn", steps=32)
    train_agent(config, go_on)
    train_agent(latent_run("dqn", steps=96), go_on)
    rates = {line["step"]: line["rollout/exploration_rate"] for line in lines(config.run) if "rollout/exploration_rate" in line}
    assert rates == pytest.approx({32: 1 - 0.95 / 2, 64: 0.05, 96: 0.05})


def test_a_run_of_before_there_were_kinds_and_sets_goes_on(latent_run) -> None:
    config = latent_run("ppo", steps=32)
    train_agent(config, go_on)
    content = torch.load(config.run / "resume.pt", weights_only=True)
    settings = json.loads(content["settings"])
    for name in ("kind", "set_policy", "set_width"):
        del settings["algorithm"][name]
    del settings["environment"]["continuous"]
    for name in ("variables", "replay"):
        del content[name]
    del content["random"]["actions"]
    torch.save({**content, "settings": json.dumps(settings)}, config.run / "resume.pt")
    assert train_agent(latent_run("ppo", steps=64), go_on)["steps"] == 64


@pytest.mark.parametrize(
    ("kind", "continuous", "message"),
    [
        ("sac", False, "'sac' needs continuous actions.*fit are ppo, a2c, dqn, qrdqn, recurrent_ppo, maskable_ppo$"),
        ("dqn", True, "'dqn' needs a choice of actions.*fit are ppo, a2c, recurrent_ppo, sac, td3$"),
    ],
)
def test_an_algorithm_that_cannot_act_there_names_those_that_can(kind, continuous, message, worlds) -> None:
    environment = EnvironmentConfig(name="Bright", continuous=continuous)
    with pytest.raises(UserError, match=message):
        check_environment(environment, tiny(kind))
    with pytest.raises(UserError, match=message.partition(".*")[0]):
        tiny(kind).make(training_environments(environment, 1, 0, None), 0, "cpu")


def test_masks_are_asked_for_where_there_are_none() -> None:
    with pytest.raises(UserError, match=r"method action_masks.*fit are ppo, a2c, dqn, qrdqn, recurrent_ppo$"):
        refuse_misfit(tiny("maskable_ppo"), spaces.Discrete(3), masks=False)


def test_an_action_that_is_masked_is_never_taken(latent_run, monkeypatch) -> None:
    taken = set()
    act = DiscreteActions.action
    monkeypatch.setattr(DiscreteActions, "action", lambda self, action: taken.add(self.names[action]) or act(self, action))
    config = latent_run("maskable_ppo", steps=64)
    config.environment.pitch_limit = 0.0
    train_agent(config, go_on)
    play([str(config.run)])
    assert {"camera_left", "camera_right"} <= taken
    assert not taken & {"camera_up", "camera_down"}


def test_an_agent_that_explores_by_chance_is_evaluated_with_some_chance_and_leaves_trainings_numbers_alone(latent_run) -> None:
    config = latent_run("dqn")
    evaluation = Evaluation(config.environment, None, 1)
    policy = tiny("dqn").make(evaluation.venv, 0, "cpu").policy
    taken = []
    act = evaluation.venv.step_async
    evaluation.venv.step_async = lambda actions: taken.append(int(actions[0])) or act(actions)
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.get_state()[1].copy()  # noqa: NPY002
    for deterministic, distinct in ((True, {1}), (False, {6, 7, 8})):
        taken.clear()
        evaluation.play_policy(policy, 8, deterministic, seed=1, epsilon=1.0)
        assert len(set(taken)) in distinct
    assert np.array_equal(np.random.get_state()[1], expected)  # noqa: NPY002


def test_a_recurrent_policy_forgets_the_episode_before(latent_run) -> None:
    config = latent_run("recurrent_ppo")
    venv = training_environments(config.environment, 1, 0, None)
    policy = tiny("recurrent_ppo").make(venv, 0, "cpu").policy
    both, second = Evaluation(config.environment, None, 1), Evaluation(config.environment, None, 1)
    expected = both.play_policy(policy, 2, True, 0).returns[1]
    (world,) = second.venv.unwrapped.envs
    seed_of = world.seed_of
    world.seed_of = lambda episode: seed_of(episode + 1)
    assert second.play_policy(policy, 1, True, 0).returns == [expected]


def test_a_replay_buffer_beyond_memory_is_refused_before_it_is_made(worlds, monkeypatch) -> None:
    monkeypatch.setattr("agents.learning.spaces.free_memory", lambda: 8 * 10**9)
    venv = training_environments(EnvironmentConfig(name="Bright"), 2, 0, None)
    with pytest.raises(UserError, match=r"1,000,000 steps in memory take 24\.6 GB and 8\.0 GB are free: lower --algorithm\.buffer-size"):
        tiny("dqn", buffer_size=1_000_000).make(venv, 0, "cpu")


@pytest.mark.parametrize("kind", [kind for kind in BUILT_IN if "buffer_size" in TINY[kind]])
def test_the_memory_that_is_estimated_is_what_the_buffer_takes(kind, worlds) -> None:
    venv = training_environments(EnvironmentConfig(name="Bright", continuous=kind in CONTINUOUS), 2, 0, None)
    assert isinstance(venv, DummyVecEnv)
    settings = tiny(kind)
    buffer = settings.make(venv, 0, "cpu").replay_buffer
    arrays = [buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts]
    assert settings.memory_bytes(venv.observation_space, venv.action_space) == sum(array.nbytes for array in arrays)


def test_settings_of_every_kind_survive_being_written_down() -> None:
    for kind in BUILT_IN:
        settings = tiny(kind)
        assert build_algorithm(asdict(settings)) == settings
