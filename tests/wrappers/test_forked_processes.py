"""Latents in gymnasium's own parallel environments, which are forked processes unless told otherwise."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import gymnasium, numpy as np, torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv
from encoders import StoreReference, make_encoder, prepare
from wrappers import FrozenEncoder, LatentObservation

class Noise(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 255, (64, 64, 3), np.uint8), spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}
    def step(self, action):
        return self.look(), 0.0, False, False, {}
    def look(self):
        return self.np_random.integers(0, 256, (64, 64, 3), np.uint8)

torch.set_num_threads(4)
frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
store = StoreReference(path="", fingerprint="0", frames_per_second=20.0, resize="squash")
prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, sys.argv[1], store=store, seed=0)
frozen = FrozenEncoder(sys.argv[1])
# the parent's threads have worked before the fork
frozen.encode(frames)
torch.randn(1024, 1024) @ torch.randn(1024, 1024)
venv = AsyncVectorEnv([lambda: LatentObservation(Noise(), frozen)] * 2)
latents = [venv.reset(seed=[3, 4])[0], venv.step(np.zeros(2, int))[0]]
venv.close()
for row, seed in enumerate((3, 4)):
    alone = Noise()
    seen = np.stack([alone.reset(seed=seed)[0], alone.step(0)[0]])
    np.testing.assert_allclose(np.stack(latents)[:, row], frozen.encode(seen)[0], atol=1e-4)
assert torch.get_num_threads() == 4
print("the same latents")
"""


def test_forked_environments_encode_what_the_parent_does_and_do_not_hang(tmp_path) -> None:
    variables = {**{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "encoder")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "the same latents" in done.stdout
