"""The three uses through the real client: record frames, train an encoder on them, train an agent on its latents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.minerl import installation

pytestmark = [
    pytest.mark.skipif(not installation.is_installed(), reason="minerl is not installed: make minerl"),
    pytest.mark.slow,
]
ROOT = Path(__file__).resolve().parents[3]


def command(*words):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_encoder_of_frames_recorded_through_the_client_serves_an_agent_for_2000_steps(tmp_path):
    game = ("--env.server", "voxel", "--env.episode-ticks", 400)
    store, encoder, run = (tmp_path / name for name in ("store", "encoder", "run"))
    command("make_frames.py", "build", "--source", "MineRLTreechop-v0", *game, "--frames", 1600, "--store", store)
    command("train_encoder.py", "conv_vae_tiny", "--store", store, "--run", encoder, "--steps", 150, "--threads", 1)
    command("evaluate_encoder.py", encoder, "--store", store, "--split", "val", "--threads", 1)
    judged = json.loads((encoder / "evaluation.json").read_text())
    assert judged["reconstruction"]["gain_db"] > 0
    evaluation = ("--evaluation.every", 2048, "--evaluation.episodes", 2, "--evaluation.final-episodes", 2)
    command("train_agent.py", "minerl_treechop", *game, "--encoder", encoder, "--steps", 2000, *evaluation, "--run", run)
    result = json.loads((run / "result.json").read_text())
    # whole rollouts: the first multiple of one that is 2,000 or more
    assert 2000 <= result["steps"] < 2000 + 512
    assert result["episodes"] == result["steps"] // 100
    assert (result["restarts"], result["deaths"], result["failed_resets"]) == (0, 0, 0)
