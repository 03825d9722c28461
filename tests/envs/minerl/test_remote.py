"""A game in another interpreter is the same game, and what is no such interpreter is refused in one line."""

import os
import shlex
import socket
import struct
import sys
import threading

import numpy as np
import pytest

from envs.minerl import installation, processes, worker
from envs.minerl.remote import RemoteGame, find_interpreter
from envs.voxel.env import VoxelEnv
from foundation.errors import UserError

needs_minerl = pytest.mark.skipif(not installation.is_installed(), reason="needs the Python side of minerl: make minerl")


@pytest.fixture
def channels():
    ours, theirs = socket.socketpair()
    yield worker.Channel(ours), worker.Channel(theirs)
    ours.close()
    theirs.close()


@pytest.fixture(scope="module")
def game():
    game = RemoteGame("MineRLNavigateDense-v0", sys.executable, server="voxel", timeout=60)
    yield game
    game.close()


@pytest.fixture
def interpreter(tmp_path):
    """Make programs that can be named as an interpreter: a shell script, or this Python with a module before all others."""

    def make(script=None, **modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        path = tmp_path / "python"
        this = f'PYTHONPATH={shlex.quote(str(tmp_path))} exec {shlex.quote(sys.executable)} "$@"'
        path.write_text(f"#!/bin/sh\n{script or this}\n")
        path.chmod(0o755)
        return path

    return make


def test_arrays_keep_their_bits_and_shapes_over_the_socket(channels):
    ours, theirs = channels
    sent = {
        "pov": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[::-1],
        "compass": {"angle": np.array(-12.3, np.float32)},
        "camera": np.array([0.1, 2 / 3]),
        "dirt": np.int64(2**40),
        "word": np.str_("none"),
        "list": [1, 2.5, None, "text", np.array([], np.float32)],
    }
    ours.send(sent)
    got = theirs.receive(5)
    for key in ("pov", "camera", "dirt"):
        np.testing.assert_array_equal(got[key], sent[key])
        assert got[key].dtype == sent[key].dtype
    assert got["compass"]["angle"].shape == ()
    assert got["compass"]["angle"] == sent["compass"]["angle"]
    assert got["pov"].flags.c_contiguous
    assert got["camera"].flags.aligned
    assert (got["word"], got["list"][:4], got["list"][4].shape) == ("none", [1, 2.5, None, "text"], (0,))


def test_objects_are_never_sent(channels):
    with pytest.raises(TypeError):
        channels[0].send({"array": np.array([object()])})


@pytest.mark.parametrize(
    "text",
    ['[0, "|O", [1]]', '[0, "<f8", [9]]', '[-8, "|u1", [1]]', '[0, "|u1", [-1]]'],
)
def test_an_array_that_its_message_does_not_hold_is_refused(channels, text):
    ours, theirs = channels
    text = f'{{"__array__": {text}}}'.encode()
    ours.peer.sendall(struct.pack("!II", len(text), 16) + text + bytes(16))
    with pytest.raises(ValueError, match="does not hold"):
        theirs.receive(5)


def test_half_a_message_a_closed_and_a_silent_connection_are_told_apart(channels):
    ours, theirs = channels
    with pytest.raises(TimeoutError):
        theirs.receive(0.01)
    with pytest.raises(ValueError, match="4294967295 bytes"):
        ours.peer.sendall(struct.pack("!II", 2**32 - 1, 0))
        theirs.receive(5)
    ours.peer.sendall(struct.pack("!II", 100, 0) + b"{")
    threading.Timer(0.05, ours.close).start()
    with pytest.raises(EOFError, match="half a message"):
        theirs.receive(5)
    with pytest.raises(EOFError, match="closed"):
        theirs.receive(5)


@needs_minerl
def test_the_spaces_are_those_of_the_client_in_this_process(game):
    from envs.minerl.local import LocalGame

    local = LocalGame("MineRLNavigateDense-v0", server="voxel")
    assert game.observation_space == local.observation_space
    assert game.action_space == local.action_space
    assert game.max_episode_steps == local.max_episode_steps == 6000


@needs_minerl
def test_an_episode_is_that_of_the_voxel_environment_pixel_by_pixel(game):
    plain = VoxelEnv("VoxelNavigateDense-v0")
    actions = np.random.default_rng(0)
    for seed in (0, 7):
        expected, _ = plain.reset(seed=seed)
        observation = game.reset(seed)
        for _ in range(40):
            np.testing.assert_array_equal(observation["pov"], expected["pov"])
            np.testing.assert_allclose(observation["compass"]["angle"], expected["compass"]["angle"], rtol=1e-6)
            assert observation in game.observation_space
            action = {"forward": 1, "jump": int(actions.integers(2)), "camera": actions.uniform(-20, 20, 2).astype(np.float32)}
            observation, reward, done, info = game.step(action)
            expected, expected_reward, terminated, truncated, _ = plain.step(action)
            assert (reward, done) == (pytest.approx(expected_reward), terminated or truncated)
            assert "minerl/error" not in info


@needs_minerl
def test_a_wrong_action_is_the_users_mistake_and_the_game_goes_on(game):
    game.reset(1)
    with pytest.raises(UserError, match=r"forwards.*did you mean 'forward'"):
        game.step({"forwards": 1})
    assert game.step({"place": "dirt"})[0]["pov"].shape == (64, 64, 3)


@needs_minerl
def test_closing_leaves_no_process_and_no_file_and_the_next_reset_starts_anew(game):
    before = game.reset(3)
    started = [processes.identify(pid) for pid in game.processes()]
    assert len(started) >= 2
    game.close()
    game.close()
    assert game.processes() == []
    assert not any(processes.lives(process) for process in started)
    assert not [path for path in processes.own_folder().iterdir() if path.is_dir()]
    np.testing.assert_array_equal(game.reset(3)["pov"], before["pov"])


@needs_minerl
def test_a_task_that_the_other_interpreter_lacks_is_named_with_the_nearest_it_has():
    with pytest.raises(UserError, match=r"has no 'MineRLTreeChop-v0'.*MineRLTreechop-v0"):
        RemoteGame("MineRLTreeChop-v0", sys.executable, server="voxel")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo this is no python; exit 3", "is no Python with numpy: it ended with status 3; it printed last: this is no python"),
        ("exec sh -c 'exit 0'", "is no Python with numpy: it ended with status 0"),
        (f"exec {shlex.quote(sys.executable)} -I -S $3 $4", "No module named 'numpy'"),
    ],
)
def test_a_program_that_is_no_python_is_quoted(interpreter, script, problem):
    before = set(processes.own_folder().iterdir())
    with pytest.raises(UserError) as refused:
        RemoteGame("MineRLTreechop-v0", interpreter(script))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)
    assert set(processes.own_folder().iterdir()) == before


def test_an_interpreter_without_minerl_says_so(interpreter):
    python = interpreter(minerl="raise ModuleNotFoundError(\"No module named 'minerl'\")")
    with pytest.raises(UserError, match=rf"python='{python}': No module named 'minerl'.*docs/minerl.md"):
        RemoteGame("MineRLTreechop-v0", python)


def test_an_interpreter_that_is_too_old_says_what_is_needed(interpreter):
    python = interpreter(sitecustomize="import sys; sys.version_info = (3, 6, 9, 'final', 0)")
    with pytest.raises(UserError, match=r"is Python 3\.6\.9, but 3\.8 or newer is needed"):
        RemoteGame("MineRLTreechop-v0", python)


def test_paths_that_are_no_program_are_refused_with_what_to_name(tmp_path):
    with pytest.raises(UserError, match=f"is a folder; name the interpreter in it, such as {tmp_path}/bin/python"):
        find_interpreter(tmp_path)
    with pytest.raises(UserError, match="is no program"):
        find_interpreter(tmp_path / "missing")
    (tmp_path / "text").write_text("text")
    with pytest.raises(UserError, match="is no program"):
        find_interpreter(tmp_path / "text")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "text").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(UserError, match="cannot be run"):
        RemoteGame("MineRLTreechop-v0", tmp_path / "text")


def test_a_virtual_environments_interpreter_is_not_resolved_to_what_it_links_to(tmp_path):
    os.symlink(sys.executable, tmp_path / "python")
    assert find_interpreter(tmp_path / "python") == tmp_path / "python"


def test_minecraft_gets_a_screen_of_its_own_where_there_is_none(tmp_path, monkeypatch):
    server = tmp_path / "Xvfb"
    server.write_text(f"#!{sys.executable} -IS\nimport os, sys\nos.write(int(sys.argv[2]), b'7\\n')\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DISPLAY", "")
    worker.Client().headless()
    assert os.environ["DISPLAY"] == ":7"
    server.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(RuntimeError, match="Xvfb did not start"):
        worker.Client().headless()
