"""Killed servers, killed and stopped processes, half frames, killed drivers: nothing hangs, and nothing is left behind."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs.minerl import installation, launching, processes
from envs.minerl.game import GameDied
from envs.minerl.recovery import RecoveringGame
from envs.minerl.remote import RemoteGame

pytestmark = pytest.mark.skipif(not installation.is_installed(), reason="needs the Python side of minerl: make minerl")

ROOT = Path(__file__).resolve().parents[3]
TASK = "MineRLTreechop-v0"

# Speaks MineRL's protocol up to the first step, and then stops in the middle of a frame.
HALF_A_FRAME = """
import socket, struct
listener = socket.create_server(("127.0.0.1", 0))
print("***** Start MalmoEnvServer on port", listener.getsockname()[1])
print("CLIENT enter state: DORMANT", flush=True)
peer = listener.accept()[0]
stream = peer.makefile("rb")

def receive():
    return stream.read(struct.unpack("!I", stream.read(4))[0])

def send(message, length=None):
    peer.sendall(struct.pack("!I", len(message) if length is None else length) + message)

while True:
    message = receive()
    if message.startswith(b"<MissionInit"):
        receive()
        send(struct.pack("!I", 1))
    elif message.startswith(b"<Quit"):
        send(struct.pack("!I", 1))
    elif message.startswith(b"<Peek"):
        send(bytes(64 * 64 * 3))
        send(b"{}")
        send(struct.pack("!b", 0))
    elif message.startswith(b"<StepClient"):
        send(bytes(100), 64 * 64 * 3)
        break
"""


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    before = {process.pid for process in processes.descendants(os.getpid())}
    yield
    left = [process.pid for process in processes.descendants(os.getpid()) if process.pid not in before]
    assert left == []


@pytest.fixture(scope="module")
def game():
    game = RecoveringGame(lambda: RemoteGame(TASK, sys.executable, server="voxel", timeout=60))
    yield game
    game.close()
    assert game.processes() == []


def running(game, name):
    """Return the ids of a game's processes whose command names `name`."""
    return [pid for pid in game.processes() if name in Path(f"/proc/{pid}/cmdline").read_text()]


def play(game, ticks):
    for _ in range(ticks):
        assert game.step({"forward": 1})[2] is False


def until_gone(started, seconds=20):
    deadline = time.monotonic() + seconds
    while any(processes.lives(process) for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [process for process in started if processes.lives(process)]


def test_a_killed_server_a_killed_and_a_stopped_interpreter_each_cost_one_episode(game):
    game.reset(0)
    for deaths, name, number, said in (
        (1, "envs.minerl.voxel_server", signal.SIGKILL, "died at step 26"),
        (2, "worker.py", signal.SIGKILL, "ended with status -9"),
        (3, "worker.py", signal.SIGSTOP, "no answer within 2 s"),
    ):
        play(game, 25)
        before = [processes.identify(pid) for pid in game.processes()]
        (victim,) = running(game, name)
        os.kill(victim, number)
        if number == signal.SIGSTOP:
            game._game._timeout = 2
        observation, reward, done, info = game.step({"forward": 1})
        assert observation["pov"].shape == (64, 64, 3)
        assert (reward, done, info["minerl/deaths"], info["minerl/failed_resets"]) == (0.0, True, deaths, 0)
        assert said in info["minerl/error"]
        assert "\n" not in info["minerl/error"]
        assert not any(processes.lives(process) for process in before)
        game._game._timeout = 60
        if deaths < 3:
            game.reset(deaths)


def test_half_a_frame_is_a_death_and_never_an_invented_observation(monkeypatch, tmp_path):
    def write_stand_in(folder):
        (folder / "Minecraft").mkdir(parents=True)
        (folder / "Schemas").mkdir()
        server, script = tmp_path / "server.py", folder / "Minecraft" / "launchClient.sh"
        server.write_text(HALF_A_FRAME)
        script.write_text(f"#!/bin/sh\nexec {sys.executable} {server}\n")
        script.chmod(0o755)
        return folder / "Minecraft", folder / "Schemas"

    monkeypatch.setattr(launching, "write_stand_in", write_stand_in)
    game = RemoteGame(TASK, sys.executable, server="voxel", timeout=60)
    assert game.reset(0)["pov"].max() == 0
    with pytest.raises(GameDied, match=r"died at step 1: the connection to the game broke off"):
        game.step({})
    with pytest.raises(GameDied, match="a step before a reset"):
        game.step({})
    assert game.processes() == []


def test_a_killed_driver_leaves_no_interpreter_and_no_server():
    code = (
        "import sys; from envs.minerl.remote import RemoteGame;"
        f"game = RemoteGame({TASK!r}, sys.executable, server='voxel', timeout=60); game.reset(0);"
        "print(*game.processes(), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        started = [processes.identify(int(pid)) for pid in driver.stdout.readline().split()]
        assert len(started) >= 2
        driver.kill()
        assert until_gone(started) == []
    processes.end_stale()
    assert not list(processes.own_folder().parent.glob(f"*.{driver.pid}.*"))


def test_a_training_run_whose_servers_are_killed_has_all_its_steps_and_counts_every_kill(tmp_path):
    spec = importlib.util.spec_from_file_location("minerl_kills", ROOT / "benchmarks" / "minerl_kills.py")
    minerl_kills = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = minerl_kills
    spec.loader.exec_module(minerl_kills)
    result, killer = minerl_kills.train_with_kills(tmp_path / "run", 3, 192, {"episode_ticks": 160}, games=1)
    assert len(killer.killed) == 3
    assert result["steps"] == 192
    assert result["deaths"] + result["failed_resets"] == result["restarts"] == 3
    assert '"environments/deaths"' in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert minerl_kills.servers() == []
