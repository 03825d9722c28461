"""Who plays an environment, and under which name it is recorded."""

from pathlib import Path

import numpy as np
import pytest

from collecting.players import Who, cast_of, collect
from envs import make_env
from envs.player import ScriptedPlayer
from foundation.errors import UserError
from foundation.seeds import FIRST_EVALUATION_SEED
from frames import FrameStore, Labels
from frames.labels import state_names


def players(environment: str, options: dict, names: tuple[str, ...] = ()) -> list:
    return cast_of(environment, options, Who(names=names))[1]


def test_voxel_tasks_are_played_with_little_and_much_noise_and_at_random() -> None:
    careful, distracted, nobody = players("VoxelNavigate-v0", {})
    assert isinstance(careful, ScriptedPlayer)
    assert isinstance(distracted, ScriptedPlayer)
    assert 0 < careful.noise < distracted.noise < 1
    assert nobody is None


def test_players_are_chosen_by_name() -> None:
    seeing = players("VoxelTreechop-v0", {}, ("seeing", "random"))
    assert [getattr(player, "name", None) for player in seeing] == ["seeing", "seeing", None]
    assert seeing[2] is None
    with pytest.raises(UserError, match="VoxelTreechop-v0 has no 'wandering' player; it has: scripted, seeing, random"):
        players("VoxelTreechop-v0", {}, ("wandering",))
    with pytest.raises(UserError, match="CarRacing-v3 has no 'seeing' player; it has: random"):
        players("CarRacing-v3", {}, ("seeing",))


def test_a_folder_is_no_player_by_the_name_of_a_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random").mkdir()
    assert players("VoxelTreechop-v0", {}, ("random",)) == [None]
    with pytest.raises(UserError, match="random"):
        players("VoxelTreechop-v0", {}, ("./random",))


NO_AGENT = [("deterministic", Who(deterministic=True)), ("encoder", Who(names=("random",), encoder=Path("e")))]


@pytest.mark.parametrize(("option", "who"), NO_AGENT)
def test_options_of_agents_are_refused_where_none_plays(option: str, who: Who) -> None:
    with pytest.raises(UserError, match=f"--{option} is for agents, and none plays here"):
        cast_of("VoxelTreechop-v0", {}, who)


def test_state_and_segmentation_are_recorded_with_their_frames(tmp_path: Path) -> None:
    recording = {"frames": 60, "episode_frames": 30, "frame_size": (16, 16), "beside": ("state", "segmentation")}
    collect("VoxelTreechop-v0", {"frame_size": 32}, Who(names=("seeing",)), path=tmp_path / "store", **recording)
    store = FrameStore(tmp_path / "store")
    assert {episode.source for episode in store.episodes} == {"VoxelTreechop-v0 (frame_size=32), seeing"}
    found = Labels(store, {"state": {}, "segmentation": {}, "next_actions": {}}).at(store.indices("all"))
    assert found["segmentation"].shape == (60, 1, 16, 16)
    env = make_env("VoxelTreechop-v0", frame_size=32)
    assert state_names(store) == sorted(env.state_space)
    # the same worlds and actions again
    for number, episode in enumerate(store.episodes):
        _, info = env.reset(seed=int(np.random.SeedSequence([0, number]).generate_state(1)[0]) % FIRST_EVALUATION_SEED)
        for frame in range(episode.first, episode.first + episode.length):
            expected = [info["state"][name] for name in state_names(store)]
            np.testing.assert_allclose(found["state"][frame, 0], expected, rtol=1e-6)
            np.testing.assert_array_equal(found["segmentation"][frame, 0], env.segmentation()[1::2, 1::2])
            if frame < episode.first + episode.length - 1:
                step = {name: store.array(episode, name)[frame - episode.first] for name in store.action_names}
                *_, info = env.step({name.removeprefix("action."): value for name, value in step.items()})


def test_other_environments_are_played_at_random() -> None:
    assert players("CarRacing-v3", {}) == [None]


def test_an_option_that_shapes_the_frames_is_part_of_the_recordings_name(tmp_path: Path) -> None:
    options = {"episode_ticks": 20}
    recording = {"path": tmp_path / "store", "frames": 30, "episode_frames": 30, "frame_size": (16, 16)}
    summary = collect("VoxelTreechop-v0", options, **recording)
    assert summary.frames == 30
    assert FrameStore(tmp_path / "store").meta["plan"]["source"] == "VoxelTreechop-v0 (episode_ticks=20)"
    with pytest.raises(UserError):
        collect("VoxelTreechop-v0", {"episode_ticks": 25}, **recording)
