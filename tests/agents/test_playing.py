"""A trained agent is watched with the encoder it was trained with, and no other file in its place."""

import cv2
import pytest

from agents.playing import play
from agents.run.agent_files import load_policy
from agents.run.training import train_agent
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from foundation.minerl import GAME_ERROR
from foundation.seeds import FIRST_EVALUATION_SEED
from tests.fixtures.agents import BrightWorld


@pytest.fixture
def encoder(tmp_path):
    """Return the folder of a tiny untrained encoder."""
    import numpy as np

    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "encoder", store=store, seed=0)
    return tmp_path / "encoder"


@pytest.fixture
def trained(small_run, encoder):
    """Return a finished run on latents."""
    config = small_run(control=None, encoder=encoder, steps=32)
    train_agent(config, lambda steps, note: False)
    return config.run


def test_an_agent_plays_and_its_film_shows_the_reconstructions(trained, tmp_path, capsys) -> None:
    video = tmp_path / "films" / "episode.mp4"
    assert play([str(trained), "--episodes", "2", "--video", str(video)]) == 0
    assert "mean return" in capsys.readouterr().out
    film = cv2.VideoCapture(str(video))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 2 * 15
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 2 * film.get(cv2.CAP_PROP_FRAME_HEIGHT)
    assert [path.name for path in video.parent.iterdir()] == ["episode.mp4"]


def test_an_episode_that_a_dying_game_cuts_off_is_played_again_and_else_left_out_of_the_mean(trained, monkeypatch, capsys) -> None:
    deaths: list[int] = []
    step = BrightWorld.step

    def dying(world, action):
        observation, reward, terminated, truncated, info = step(world, action)
        number = world.seeds[-1] - FIRST_EVALUATION_SEED
        # in world 1 once, in world 2 whenever it is played
        if world.ticks == 8 and (number == 2 or (number == 1 and not deaths)):
            deaths.append(number)
            return observation, reward, False, True, {**info, GAME_ERROR: "it died"}
        return observation, reward, terminated, truncated, info

    monkeypatch.setattr(BrightWorld, "step", dying)
    assert play([str(trained), "--episodes", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert deaths == [1, 2, 2, 2]
    assert [line.endswith("in 15 steps") for line in said[:3]] == [True, True, False]
    assert said[2].endswith("in 2 steps (cut off: its game died)")
    returns = [float(line.split("return ")[1].split()[0]) for line in said[:2]]
    assert said[3] == f"mean return {sum(returns) / 2:.2f} over 2 episodes"


def test_the_same_world_and_seed_are_played_the_same_way(trained, capsys) -> None:
    play([str(trained), "--world", "3", "--seed", "5"])
    first = capsys.readouterr().out
    assert "(world 3)" in first
    play([str(trained), "--world", "3", "--seed", "5"])
    assert capsys.readouterr().out == first


def test_another_encoder_in_its_place_is_refused(trained, encoder, tmp_path) -> None:
    (encoder / "encoder.json").rename(encoder / "kept.json")
    with pytest.raises(UserError, match=r"encoder\.json"):
        play([str(trained)])
    with pytest.raises(UserError, match="with --encoder FOLDER"):
        play([str(trained), "--encoder", str(tmp_path / "nowhere")])


def test_weights_of_another_save_are_refused(trained) -> None:
    weights = trained / "agent.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"0000")
    with pytest.raises(UserError, match=r"does not belong to agent\.json"):
        load_policy(trained, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"does not belong to agent\.json"):
        play([str(trained)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--episodes", "0"], "'episodes' must be at least 1"),
        (["--seed", "-1"], "'seed' must be from 0"),
        (["--world", "-1"], "'world' must be from 0"),
    ],
)
def test_a_wrong_number_is_named(tmp_path, options, message) -> None:
    with pytest.raises(UserError, match=message):
        play([str(tmp_path), *options])


def test_options_of_the_environment_reach_agents_and_players(trained, capsys) -> None:
    for played in ([str(trained)], ["voxel_treechop", "--player", "random"]):
        assert play([*played, "--env.episode-ticks", "12"]) == 0
        assert "in 3 steps" in capsys.readouterr().out


def test_a_folder_without_an_agent_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no agent\.json"):
        play([str(tmp_path)])
    with pytest.raises(UserError, match="name the folder of a trained agent first"):
        play([])
