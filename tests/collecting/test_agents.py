"""What a trained agent plays is recorded as play_agent.py plays it, with every tick, and other players take turns with it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import films
from agents.films import _film, seated
from agents.jobs import Stopped
from agents.learning.off_policy import DQNSettings
from agents.learning.on_policy import PPOSettings, RecurrentPPOSettings
from agents.play_config import PlayConfig
from agents.run.agent_files import read_agent
from agents.run.config import AgentRun
from agents.run.training import train_agent
from collecting.agents import AgentPlayer
from collecting.players import Who, collect
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from foundation.seeds import FIRST_EVALUATION_SEED
from frames import FrameStore, Labels

Make = Callable[..., AgentRun]
SMALL: dict[str, Any] = {"n_envs": 2, "net_arch": (16,)}


def trained(config: AgentRun) -> Path:
    train_agent(config, lambda steps, note: False)
    return config.run


def encoder(folder: Path, preset: str) -> Path:
    """Write an untrained encoder of pictures at the rate of agents' steps."""
    frames = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    model = make_encoder(preset, frame_shape=[64, 64, 3])
    seen = frames.reshape(8, 8, 64, 64, 3) if model.initial_state(1) else frames
    prepare(model, seen, folder, store=StoreReference("gone", "0", 5.0, "squash"), seed=0)
    return folder


def record(path: Path, *names: str | Path, frames: int = 150, **recording: Any) -> FrameStore:
    who = {name: recording.pop(name) for name in ("shares", "deterministic") if name in recording}
    collect("Bright", {}, Who(names=[str(name) for name in names], **who), path=path, frames=frames, **recording)
    return FrameStore(path)


def world(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % FIRST_EVALUATION_SEED


AGENTS = {
    "ppo on pixels": {"algorithm": PPOSettings(n_steps=16, batch_size=32, n_epochs=1, **SMALL)},
    "recurrent ppo on an encoder with memory": {
        "algorithm": RecurrentPPOSettings(n_steps=16, batch_size=32, n_epochs=1, lstm_hidden_size=8, **SMALL),
        "encoder": "cwvae_debug",
        "control": None,
    },
    "dqn on latents, with its last epsilon": {
        "algorithm": DQNSettings(learning_starts=8, batch_size=8, buffer_size=100, **SMALL),
        "encoder": "debug",
        "control": None,
    },
}


@pytest.mark.parametrize(("kind", "deterministic"), [*((kind, False) for kind in AGENTS), ("ppo on pixels", True)])
def test_frames_actions_and_rewards_are_those_that_play_agent_shows(
    small_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, deterministic: bool
) -> None:
    settings = dict(AGENTS[kind])
    if "encoder" in settings:
        settings["encoder"] = encoder(tmp_path / "encoder", settings["encoder"])
    run = trained(small_run(steps=32, **settings))
    store = record(tmp_path / "store", run, deterministic=deterministic, seed=7)
    assert [episode.length for episode in store.episodes] == [61, 61, 28]
    for number, episode in enumerate(store.episodes):
        seed = world(7, number)
        monkeypatch.setattr(films, "evaluation_seed", lambda _, seed=seed: seed)
        config = PlayConfig(deterministic=deterministic, seed=seed, video=tmp_path / "film.mp4")
        venv, acting, _ = seated(run, config, {})
        film = _film(venv, acting, config)[0]
        ticks = np.arange(0, min(60, episode.length), 4)
        assert np.array_equal(store.frames(episode.first + ticks), np.stack(film.pictures[: len(ticks)]))
        if episode.length == 61:
            assert store.array(episode, "reward").sum() == film.episode_return
    assert {episode.task for episode in store.episodes} == {"Bright"}


def test_replaying_the_recorded_actions_gives_the_recorded_frames_and_rewards(small_run: Make, worlds: Any, tmp_path: Path) -> None:
    store = record(tmp_path / "store", trained(small_run(steps=32)))
    for number, episode in enumerate(store.episodes):
        env = worlds("Bright")
        observation, _ = env.reset(seed=world(0, number))
        frames, rewards = [observation["pov"]], []
        for tick in range(episode.length - 1):
            action = {name.removeprefix("action."): store.array(episode, name)[tick] for name in store.action_names}
            observation, reward, *_ = env.step(action)
            frames.append(observation["pov"])
            rewards.append(reward)
        assert np.array_equal(store.frames(np.arange(episode.length) + episode.first), np.stack(frames))
        assert np.array_equal(store.array(episode, "reward"), rewards)


def test_players_share_the_episodes_and_each_is_named(small_run: Make, tmp_path: Path) -> None:
    run = trained(small_run(steps=32))
    store = record(tmp_path / "store", "random", run, shares=(1, 3), frames=8 * 61, val=0.3)
    played = [name for _, name in sorted((episode.name, episode.source.rpartition(", ")[2]) for episode in store.episodes)]
    agent = f"agent run at 32 steps ({read_agent(run)['weights_sha256'][:8]})"
    assert played == [agent, "random", agent, agent, agent, "random", agent, agent]
    labelled = Labels(store, {"next_actions": {"players": "agent", "count": 1}}).at(store.indices("all"))["next_actions"]
    known = ~np.isnan(labelled[:, 0]).any(axis=(1, 2))
    for episode in store.episodes:
        inside = known[episode.first : episode.first + episode.length - 1]
        assert inside.all() == (not episode.source.endswith("random"))
    assert store.meta["plan"]["shares"] == [1.0, 3.0]


def test_a_half_trained_agent_plays_its_newest_checkpoint(small_run: Make, tmp_path: Path) -> None:
    config = small_run(steps=1000)
    with pytest.raises(Stopped):
        train_agent(config, lambda steps, note: steps >= 64)
    assert not (config.run / "result.json").exists()
    store = record(tmp_path / "store", config.run, frames=20)
    assert " at 64 steps (" in store.episodes[0].source


def test_a_killed_recording_goes_on_to_the_same_store_and_another_checkpoint_is_refused(
    small_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(small_run(steps=32))
    whole = record(tmp_path / "whole", run, "random")
    played = AgentPlayer.play
    episodes: list[int] = []

    def killed(self: AgentPlayer, env: Any, seed: int) -> Any:
        episodes.append(seed)
        if len(episodes) == 2:
            raise KeyboardInterrupt
        return played(self, env, seed)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(AgentPlayer, "play", killed)
        record(tmp_path / "killed", run, "random")
    kept = shutil.copytree(tmp_path / "killed.building", tmp_path / "other.building")
    assert record(tmp_path / "killed", run, "random").fingerprint == whole.fingerprint
    other = trained(small_run(steps=64))
    with pytest.raises(UserError, match="made with players"):
        record(tmp_path / "other", other, "random")
    assert kept.exists()


def test_agents_of_other_environments_and_folders_without_one_are_refused(small_run: Make, tmp_path: Path) -> None:
    run = trained(small_run(steps=32))
    with pytest.raises(UserError, match=r"was trained in Bright; record it with --source Bright"):
        collect("Telling", {}, Who(names=[str(run)]), path=tmp_path / "store", frames=10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no trained agent"):
        record(tmp_path / "store", tmp_path / "empty")
    with pytest.raises(UserError, match="an agent plays by the folder of its run"):
        record(tmp_path / "store", tmp_path / "nowhere")
    with pytest.raises(UserError, match="--shares: 3 for 2 players"):
        record(tmp_path / "store", "random", run, shares=(1, 2, 3))
    assert not (tmp_path / "store").exists()
