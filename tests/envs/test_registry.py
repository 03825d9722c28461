"""Names and options: what works, and what a mistake says."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import envs
from foundation.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("VoxelTreechopp-v0", {}, "did you mean 'VoxelTreechop-v0'"),
        ("VoxelTreechop-v0", {"frame_sise": 64}, "did you mean 'frame_size'"),
        ("VoxelTreechop-v0", {"frame_size": 2}, "frame_size=2"),
        ("VoxelTreechop-v0", {"frame_size": 64.5}, "frame_size=64.5"),
        ("VoxelTreechop-v0", {"episode_ticks": 0}, "episode_ticks=0"),
        ("VoxelTreechop-v0", {"render_mode": "human"}, "rgb_array"),
        ("os:system", {}, "unknown environment 'system': 'os' was imported and does not register it"),
        ("CartPole-v1", {"speed": 3}, "CartPole-v1 cannot be made"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        envs.make_env(name, **options)
    assert "\n" not in str(caught.value)


def test_voxel_ids_are_known_to_gymnasium():
    env = gymnasium.make("VoxelNavigate-v0", frame_size=32, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation["pov"].shape == (32, 32, 3)
    assert (env.render() == observation["pov"]).all()


def test_names_are_looked_at_without_loading_what_takes_long():
    code = "import sys, envs.registry; print([name for name in ('numba', 'cv2', 'torch', 'ray') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout == "[]\n"
