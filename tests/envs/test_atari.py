"""A real package's environments, by name alone, through every command: ale-py brings the games in its wheel."""

import json

import numpy as np
import pytest

import envs
from agents.command import train as train_agent
from agents.playing import play
from collecting.command import make as make_frames
from foundation.errors import UserError
from frames import FrameStore
from pretraining.encoder_command import train as train_encoder

BREAKOUT = "ale_py:ALE/Breakout-v5"
SHORT = ["--environment.episode-steps", "40", "--evaluation.episodes", "1", "--evaluation.final-episodes", "2"]


def test_frames_encoder_agent_remote_actor_and_film_of_breakout(tmp_path, capfd) -> None:
    store, encoder, run = (str(tmp_path / name) for name in ("store", "encoder", "agent"))
    assert make_frames(["build", "--source", BREAKOUT, "--debug", "--store", store]) == 0
    recorded = FrameStore(store)
    assert {(episode.task, episode.frames_per_second) for episode in recorded.episodes} == {("ALE/Breakout-v5", 30.0)}
    assert "train_agent.py atari_breakout --encoder RUN --run RUN2" in capfd.readouterr().out
    assert train_encoder(["debug", "--store", store, "--run", encoder, "--steps", "4", "--threads", "1"]) == 0

    words = ["atari_breakout", "--agent", "debug", "--encoder", encoder, "--run", run, "--device", "cpu", *SHORT]
    assert train_agent([*words, "--steps", "500"]) == 0
    assert _result(run)["remote"] is None
    # the environments of the same run in an actor: it goes on
    assert train_agent([*words, "--steps", "576", "--remote.actors", "1"]) == 0
    result = _result(run)
    assert (result["steps"], result["remote"]["actors"], result["restarts"]) == (576, 1, 0)

    with pytest.raises(UserError, match=f"imports the Python module 'ale_py'.*add --environment {BREAKOUT}"):
        play([run])
    capfd.readouterr()
    assert play([run, "--environment", BREAKOUT, "--video", str(tmp_path / "film.mp4")]) == 0
    assert "in 40 steps" in capfd.readouterr().out


def _result(run: str) -> dict:
    with open(f"{run}/result.json") as file:
        return json.load(file)


def seen_in_breakout(picture):
    """Find the middle of the paddle and of the ball by their colour, which they share with a row of bricks above: (x, x, y), or None."""
    red = (picture == [200, 72, 72]).all(-1)
    (paddle,), (ys, xs) = np.nonzero(red[189:193, 8:152].any(0)), np.nonzero(red[95:187, 8:152])
    return (paddle.mean(), xs.mean(), ys.mean()) if len(paddle) and len(xs) else None


def seen_in_pong(picture):
    ground = picture[34:194]
    (paddle,), (opponent,) = (np.nonzero((ground == colour).all(-1).any(1)) for colour in ([92, 186, 92], [213, 130, 74]))
    ys, xs = np.nonzero((ground == [236, 236, 236]).all(-1))
    return (paddle.mean(), opponent.mean(), xs.mean(), ys.mean()) if len(paddle) and len(opponent) and len(xs) else None


@pytest.mark.parametrize(
    ("game", "names", "seen"),
    [
        ("Breakout", ("paddle_x", "ball_x", "ball_y"), seen_in_breakout),
        ("Pong", ("paddle_y", "opponent_y", "ball_x", "ball_y"), seen_in_pong),
    ],
)
def test_the_state_that_is_told_is_what_the_picture_shows(game, names, seen) -> None:
    env = envs.make_env(f"ale_py:ALE/{game}-v5")
    assert set(env.get_wrapper_attr("state_space").spaces) == {*names, "ball_x_change", "ball_y_change"}
    random, told, shown, changes = np.random.default_rng(0), [], [], []
    observation, info = env.reset(seed=0)
    for tick in range(500):
        observation, _, terminated, _, info = env.step(1 if tick % 20 == 0 else int(random.integers(env.action_space.n)))
        assert all(space.contains(np.float32(info["state"][name])) for name, space in env.get_wrapper_attr("state_space").items())
        found = seen(observation["pov"])
        if found is not None:
            told.append([info["state"][name] for name in names])
            shown.append(found)
            changes.append((tick, info["state"]["ball_x_change"], info["state"]["ball_y_change"]))
        if terminated:
            env.reset(seed=tick)
    told, shown = np.array(told), np.array(shown)
    assert len(told) > 150
    for place in range(len(names)):
        # paddles are seen in part at the edges of the ground
        assert np.corrcoef(told[:, place], shown[:, place])[0, 1] > 0.99
    ticks = np.array([tick for tick, *_ in changes])
    follow = np.flatnonzero(np.diff(ticks) == 1)
    moved = shown[follow + 1, -2:] - shown[follow, -2:]
    steady = np.abs(moved).max(1) < 20
    np.testing.assert_allclose(np.array(changes)[follow + 1, 1:][steady] * 32, moved[steady], atol=2.5)


def test_a_game_whose_addresses_are_not_known_has_no_state() -> None:
    env = envs.make_env("ale_py:ALE/Freeway-v5")
    assert not env.has_wrapper_attr("state_space")
    assert "state" not in env.reset(seed=0)[1]
