"""Commands under `ulimit -f`: one line and status 2, and nothing that is half written."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.processes import limited_files

ROOT = Path(__file__).resolve().parents[1]
BUILD = ("make_frames.py", "build", "--source", "VoxelTreechop-v0", "--debug", "--store", "OUT")
ENCODER = ("train_encoder.py", "debug", "--store", "STORE", "--steps", "4", "--training.batch-size", "4", "--run", "OUT")
AGENT = ("train_agent.py", "debug", "--control", "pixels", "--run", "OUT")
COMPARISON = ("compare_encoders.py", "debug", "--controls", "pixels", "--run", "OUT")


def under(limit: int, words: tuple[str, ...], store: Path, out: Path) -> subprocess.CompletedProcess:
    """Run a command whose files may have `limit` bytes."""
    named = {"STORE": str(store), "OUT": str(out)}
    command = limited_files(limit, [sys.executable, *(named.get(word, word) for word in words)])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600)


def check_refused(ended: subprocess.CompletedProcess, out: Path) -> None:
    assert ended.returncode == 2, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert errors[0] == ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list(out.rglob(".*half-written")) == []


@pytest.mark.parametrize(("words", "limit"), [(BUILD, 20_000), (ENCODER, 200), (AGENT, 2**20), (COMPARISON, 2**20)])
def test_a_command_that_may_write_no_file_so_large_says_so(words: tuple[str, ...], limit: int, video_store: Path, tmp_path: Path) -> None:
    check_refused(under(limit, words, video_store, tmp_path / "out"), tmp_path / "out")


@pytest.mark.extended
@pytest.mark.parametrize("words", [BUILD, ENCODER], ids=lambda words: words[0])
@pytest.mark.parametrize("limit", [0, 1, 3_000, 10_000, 40_000, 100_000])
def test_wherever_the_limit_is_met_the_same_command_goes_on_without_it(
    words: tuple[str, ...], limit: int, video_store: Path, tmp_path: Path
) -> None:
    check_refused(under(limit, words, video_store, tmp_path / "out"), tmp_path / "out")
    ended = under(resource.RLIM_INFINITY, words, video_store, tmp_path / "out")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.extended
@pytest.mark.parametrize("words", [AGENT, COMPARISON], ids=lambda words: words[0])
@pytest.mark.parametrize("limit", [0, 100, 2**27])
def test_what_needs_ray_says_so_before_it_starts_one(words: tuple[str, ...], limit: int, video_store: Path, tmp_path: Path) -> None:
    check_refused(under(limit, words, video_store, tmp_path / "out"), tmp_path / "out")
