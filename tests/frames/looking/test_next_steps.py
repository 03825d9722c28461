"""The commands that are offered next suit what is in the store."""

import gymnasium
import numpy as np
import pytest

from frames import FrameStore, record
from frames.building.merging import merge_stores
from frames.looking.next_steps import agent_command, next_commands, one_split_line, with_next


class Grey(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8), gymnasium.spaces.Discrete(2)
    metadata = {"render_fps": 5}

    def reset(self, *, seed=None, options=None):
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((8, 8, 3), np.uint8), 0.0, False, False, {}


@pytest.fixture
def recorded(tmp_path):
    def make(name="rollouts", **options) -> FrameStore:
        record(Grey, None, tmp_path / "store", **{"frames": 90, "episode_frames": 30, "frame_size": (8, 8), "name": name, **options})
        return FrameStore(tmp_path / "store")

    return make


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("VoxelTreechop-v0", "python train_agent.py voxel_treechop --encoder RUN --run RUN2"),
        ("MineRLTreechop-v0 (server=voxel)", "python train_agent.py minerl_treechop --env.server voxel --encoder RUN --run RUN2"),
        ("ale_py:ALE/Breakout-v5", "python train_agent.py atari_breakout --encoder RUN --run RUN2"),
        ("ale_py:ALE/Pong-v5", "python train_agent.py atari_breakout --environment.name ale_py:ALE/Pong-v5 --encoder RUN --run RUN2"),
        ("mine:Maze-v0", "python train_agent.py PRESET.yaml --environment.name mine:Maze-v0 --encoder RUN --run RUN2"),
    ],
)
def test_an_agent_is_offered_the_environment_that_was_recorded(recorded, name, command) -> None:
    assert agent_command(recorded(name), "RUN") == command


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (("VoxelForage-v0", "VoxelForage-v0 (episode_ticks=1000)"), "python train_agent.py voxel_forage --encoder RUN --run RUN2"),
        (
            ("VoxelForage-v0 (palette=autumn, weather=fog)", "VoxelForage-v0 (weather=fog)"),
            "python train_agent.py voxel_forage --env.weather fog --encoder RUN --run RUN2",
        ),
        (("VoxelForage-v0", "VoxelTreechop-v0"), None),
    ],
)
def test_of_a_merged_store_the_environment_is_offered_that_all_of_it_was_recorded_in(tmp_path, names, command) -> None:
    for number, name in enumerate(names):
        record(Grey, None, tmp_path / str(number), frames=90 + number, episode_frames=30, frame_size=(8, 8), name=name)
    merge_stores([tmp_path / str(number) for number in range(len(names))], tmp_path / "merged")
    assert agent_command(FrameStore(tmp_path / "merged"), "RUN") == command


def test_where_another_environment_was_appended_none_is_offered(recorded, tmp_path) -> None:
    assert agent_command(recorded("VoxelForage-v0"), "RUN")
    for name, command in (("VoxelForage-v0", "python train_agent.py voxel_forage --encoder RUN --run RUN2"), ("VoxelTreechop-v0", None)):
        record(Grey, None, tmp_path / "store", frames=60, episode_frames=20, frame_size=(8, 8), name=name, seed=len(name), append=True)
        assert agent_command(FrameStore(tmp_path / "store"), "RUN") == command


def test_clips_are_offered_to_an_encoder_that_learns_from_them(recorded, tmp_path) -> None:
    assert not any("cwvae" in command for command in next_commands(recorded()))
    record(Grey, None, tmp_path / "long", frames=80, episode_frames=80, frame_size=(8, 8), name="long")
    store = FrameStore(tmp_path / "long")
    image, clips, agent = next_commands(store)
    assert image == f"python train_encoder.py conv_vae_small --store {store.path} --run RUN --model.frame-shape 8 8 3"
    assert clips.startswith(f"python train_encoder.py cwvae_small --store {store.path}")
    assert with_next(image, agent)[0] == f"next: {image}"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"split": "train"}, "3 recordings in 'train', none to validate on; an encoder needs both: leave out --split"),
        ({"split": "val"}, "3 recordings in 'val', none to train on; an encoder needs both: leave out --split"),
        ({"frames": 30}, "1 recording in 'train', none to validate on; an encoder needs both: add recordings"),
        ({"frames": 60, "val": 0.0, "test": 0.5}, "recordings in 'test' and 'train', none to validate on; an encoder needs both: give"),
        ({}, None),
    ],
)
def test_a_store_all_in_one_split_is_said_to_lack_the_others(recorded, options, line) -> None:
    said = one_split_line(recorded(**options))
    assert (said is None) == (line is None)
    assert said is None or line in said
