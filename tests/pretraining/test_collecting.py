"""Who plays an environment, and under which name it is recorded."""

from pathlib import Path

import pytest

from envs.player import ScriptedPlayer
from foundation.errors import UserError
from frames import FrameStore
from pretraining.collecting import collect, players


def test_voxel_tasks_are_played_with_little_and_much_noise_and_at_random() -> None:
    careful, distracted, nobody = players("VoxelNavigate-v0", {})
    assert isinstance(careful, ScriptedPlayer)
    assert isinstance(distracted, ScriptedPlayer)
    assert 0 < careful.noise < distracted.noise < 1
    assert nobody is None


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
