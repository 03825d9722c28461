import io
import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import lmdb
import numpy as np
import pytest

from collecting.command import make
from foundation.command import run
from frames import FrameStore
from frames.storage import format

ROOT = Path(__file__).resolve().parents[2]


def script(*arguments: object) -> subprocess.CompletedProcess:
    """Run the command as a user does."""
    command = [sys.executable, str(ROOT / "make_frames.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def make_frames(*arguments: object, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the command in this process, which saves its start."""
    stdout, stderr, command = io.StringIO(), io.StringIO(), ["make_frames.py", *map(str, arguments)]
    with mock.patch.object(sys, "argv", command), chdir(folder), redirect_stdout(stdout), redirect_stderr(stderr):
        with pytest.raises(SystemExit) as ended:
            run(lambda: make(command[1:]))
    return subprocess.CompletedProcess(command, ended.value.code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def source(tmp_path, noise, write_video):
    for number in range(3):
        write_video(tmp_path / "in" / f"film [{number}].avi", noise(20, seed=number, size=64))
    return tmp_path / "in"


def test_build_inspect_and_verify_each_say_what_they_did_and_what_comes_next(tmp_path, source):
    store = tmp_path / "store"
    built = script("build", "--source", source, "--store", store)
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
    assert "GB/s" in verified.stdout


def test_a_damaged_store_is_verified_to_the_end_and_ends_with_status_2(tmp_path, source):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    with lmdb.open(str(tmp_path / "store"), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for name in ("film [0].avi", "film [2].avi"):
            key = format.chunk_key(format.chunk_prefix(name), 0)
            transaction.put(key, bytes(len(transaction.get(key))))
    verified = make_frames("verify", "--store", tmp_path / "store")
    assert verified.returncode == 2
    assert "damaged: film [0].avi: " in verified.stdout
    assert "damaged: film [2].avi: " in verified.stdout
    assert "2 faults" in verified.stderr


def test_what_inspect_shows_is_in_its_json_too(tmp_path, source):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    inspected = make_frames("inspect", "--store", tmp_path / "store", "--json", tmp_path / "figures.json", "--episodes", 2)
    assert inspected.returncode == 0, inspected.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert sum(split["frames"] for split in figures["splits"].values()) == figures["frames"] == 60
    assert [episode["name"] for episode in figures["episodes"]] == ["film [0].avi", "film [1].avi"]
    assert "the longest 2 of 3" in inspected.stdout


def test_an_episode_is_exported_by_its_name(tmp_path, source):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    file = tmp_path / "a b.npz"
    exported = make_frames("export", "--store", tmp_path / "store", "--episode", "film [1].avi", "--out", file, "--frames", 7)
    assert exported.returncode == 0, exported.stderr
    assert f"wrote {file}: 7 frames" in exported.stdout
    assert np.load(file)["frames"].shape == (7, 64, 64, 3)


def test_what_is_to_be_left_out_is_counted(tmp_path, source):
    (source / "manifest.csv").write_text("file,drop_lead,drop_tail\nfilm [0].avi,2,3\n")
    built = make_frames("build", "--source", source, "--store", tmp_path / "store", "--manifest", source / "manifest.csv", "--drop-lead", 1)
    assert built.returncode == 0, built.stderr
    assert "trimmed: 7 frames (4 at the start, 3 at the end)" in built.stdout
    assert len(FrameStore(tmp_path / "store")) == 53


def test_recordings_are_appended(tmp_path, source, noise, write_video):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    write_video(tmp_path / "more" / "another.avi", noise(30, seed=9, size=64))
    appended = make_frames("build", "--source", tmp_path / "more", "--store", tmp_path / "store", "--append")
    assert appended.returncode == 0, appended.stderr
    assert "90 frames of 4 episodes (1 decoded, 3 before)" in appended.stdout
    inspected = make_frames("inspect", "--store", tmp_path / "store", "--episodes", 0)
    assert f"made from {source}, {tmp_path / 'more'}\n" in inspected.stdout


def test_a_store_in_a_folder_with_brackets_is_named_as_it_is(tmp_path, source):
    store = tmp_path / "[a" / "old]" / "store"
    built = make_frames("build", "--source", source, "--store", store)
    assert f"wrote {store}: 60 frames" in built.stdout


def test_a_store_is_inspected_from_inside_its_folder(tmp_path, source):
    make_frames("build", "--source", source, "--store", tmp_path / "store")
    inspected = make_frames("inspect", "--store", ".", folder=tmp_path / "store")
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
        (["build", "--source", "nowhere", "--store", "x"], "nowhere: no file or folder of that name, and no environment's"),
        (["build", "--source", "records-v2", "--store", "x"], "no file or folder of that name, and unknown environment 'records-v2'"),
        (["inspect", "--store", "nowhere"], "no such frame store"),
        (["verify", "--store", "README.md"], "README.md"),
        (["build", "--source", "VoxelTreechp-v0", "--store", "x"], "VoxelTreechop-v0"),
        (["build", "--source", "no_such_module:Env-v0", "--store", "x"], "module 'no_such_module'"),
        (["build", "--source", "VoxelTreechop-v0", "--store", "x", "--drop-lead", "3"], "--drop-lead is for recordings"),
        (["build", "--source", "docs", "--store", "x", "--frames", "10"], "--frames is for environments, and docs holds recordings"),
        (["build", "--source", "docs", "--store", "x", "--digits", "y"], "--digits is for MovingDigits, and docs holds recordings"),
        (["build", "--source", "docs", "--store", "x", "--layout", "videoes"], "did you mean 'videos'?"),
        (["build", "--source", "docs", "--store", "x", "--thin-frozen", "0"], "thin_frozen"),
        (["build", "--source", "docs", "--store", "x", "--manifest", "nowhere.csv"], "nowhere.csv"),
        (["build", "--source", "docs", "--store", "x", "--workers", "0"], "workers"),
        (["export", "--store", "nowhere", "--episode", "a", "--out", "a.npz"], "no such frame store"),
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
    built = script("build", "--source", "VoxelTreechop-v0", "--store", tmp_path / "store", "--debug")
    assert built.returncode == 0, built.stderr
    store = FrameStore(tmp_path / "store")
    assert len(store) == 300
    assert "action.attack" in store.action_names
    assert len(store.indices("val")) > 0


def test_an_environments_own_options_shape_it_and_stand_in_the_store(tmp_path):
    options = ["--frames", 62, "--store", tmp_path / "store", "--env.episode-ticks", 30]
    built = make_frames("build", "--source", "VoxelTreechop-v0", *options)
    assert built.returncode == 0, built.stderr
    store = FrameStore(tmp_path / "store")
    assert max(episode.length for episode in store.episodes) == 31
    assert store.meta["plan"]["source"] == "VoxelTreechop-v0 (episode_ticks=30)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "--source", "VoxelTreechop-v0", "--env.sever", "voxel"], "unknown option 'sever'"),
        (["build", "--source", ".", "--env.server", "voxel"], "--env.server is for environments"),
        (["inspect", "--env.server", "voxel"], "--env.server is for build"),
        (["build", "--source", "VoxelTreechop-v0", "--env.server"], "--env.server needs a value"),
    ],
)
def test_an_environments_option_in_the_wrong_place_is_named(tmp_path, words, message):
    ended = make_frames(*words, "--store", tmp_path / "store")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not (tmp_path / "store").exists()
