import subprocess
import sys
from pathlib import Path

import pytest

from frames import FrameStore

ROOT = Path(__file__).resolve().parents[2]


def make_frames(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "make_frames.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def source(tmp_path, noise, write_video):
    for number in range(3):
        write_video(tmp_path / "in" / f"film [{number}].avi", noise(20, seed=number, size=64))
    return tmp_path / "in"


def test_build_inspect_and_verify_each_say_what_they_did_and_what_comes_next(tmp_path, source):
    store = tmp_path / "store"
    built = make_frames("build", "--source", source, "--store", store)
    assert built.returncode == 0, built.stderr
    assert f"wrote {store}: 60 frames of 3 episodes" in built.stdout
    assert f"python train_encoder.py conv_vae_small --store {store}" in built.stdout
    inspected = make_frames("inspect", "--store", store)
    assert inspected.returncode == 0, inspected.stderr
    assert "film [1].avi" in inspected.stdout
    assert FrameStore(store).fingerprint in inspected.stdout
    assert (tmp_path / "store.png").exists()
    verified = make_frames("verify", "--store", store)
    assert verified.returncode == 0, verified.stderr
    assert "60 frames of 3 episodes are what was written" in verified.stdout


def test_a_store_in_a_folder_with_brackets_is_named_as_it_is(tmp_path, source):
    store = tmp_path / "[a" / "old]" / "store"
    built = make_frames("build", "--source", source, "--store", store)
    assert f"wrote {store}: 60 frames" in built.stdout


def test_a_store_is_inspected_from_inside_its_folder(tmp_path, source):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    command = [sys.executable, str(ROOT / "make_frames.py"), "inspect", "--store", "."]
    inspected = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "store")
    assert inspected.returncode == 0, inspected.stderr
    assert (tmp_path / "store.png").exists()


def test_the_exit_status_tells_what_was_left_out(tmp_path, source):
    (source / "broken.mp4").write_bytes(b"no video")
    built = make_frames("build", "--source", source, "--store", tmp_path / "store")
    assert built.returncode == 1
    assert "left out: broken.mp4: " in built.stdout
    assert "again" not in built.stderr
    assert make_frames("build", "--source", source, "--store", tmp_path / "store").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--source", "nowhere", "--store", "x"], "nowhere: no such folder"),
        (["inspect", "--store", "nowhere"], "no such frame store"),
        (["verify", "--store", "README.md"], "README.md"),
        (["build", "--source", "VoxelTreechp-v0", "--store", "x"], "VoxelTreechop-v0"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(arguments, message):
    failed = make_frames(*arguments)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not (ROOT / "x").exists()
    assert not (ROOT / "x.building").exists()


def test_an_environment_is_recorded_by_its_id(tmp_path):
    built = make_frames("build", "--source", "VoxelTreechop-v0", "--store", tmp_path / "store", "--debug", "True")
    assert built.returncode == 0, built.stderr
    store = FrameStore(tmp_path / "store")
    assert len(store) == 300
    assert "action.attack" in store.action_names
    assert len(store.indices("val")) > 0
