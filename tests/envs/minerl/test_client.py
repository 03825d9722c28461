"""The unmodified `minerl` client in this process, against the voxel server and against servers that fail it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import envs
from envs.minerl import guard, installation, launching, processes
from envs.minerl.game import GameDied
from envs.minerl.local import LocalGame
from envs.minerl.mission import STAND_INS
from envs.voxel.env import VoxelEnv
from foundation.errors import UserError

pytestmark = pytest.mark.skipif(not installation.is_installed(), reason="needs minerl: make minerl")

ROOT = Path(__file__).resolve().parents[3]
TASKS = ["Treechop", "Navigate", "NavigateDense"]
SERVER = """\
import socket, struct, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print("***** Start MalmoEnvServer on port", listener.getsockname()[1])
print("CLIENT enter state: DORMANT", flush=True)
peer = listener.accept()[0]
def receive():
    length, = struct.unpack("!I", peer.recv(4, socket.MSG_WAITALL))
    return peer.recv(length, socket.MSG_WAITALL)
def send(*messages):
    for message in messages:
        peer.sendall(struct.pack("!I", len(message)) + message)
ok, frame = struct.pack("!I", 1), bytes(64 * 64 * 3)
while True:
    message = receive()
    if message == b"<Quit/>" or message.startswith(b"token"):
        send(ok)
    elif message.startswith(b"<MissionInit"):
        receive()
        send(ok)
    elif message == b"<Peek/>":
        send(frame, b"{}", struct.pack("!b", 0))
    elif message.startswith(b"<StepClient"):
        print("about to fail", flush=True)
        FAILURE
"""
FAILURES = {
    "half a frame, then the end": "peer.sendall(struct.pack('!I', len(frame)) + frame[:5000]); sys.exit(3)",
    "half a frame as if it were one": "send(frame[:6000], struct.pack('!dbb', 0, 0, 1), b'{}'); sys.exit(0)",
    "an end before the info": "send(frame, struct.pack('!dbb', 0, 0, 1)); sys.exit(0)",
    "no frame at all": "send(b'', struct.pack('!dbb', 0, 0, 1), b'{}'); sys.exit(0)",
    "an info that is no JSON": "send(frame, struct.pack('!dbb', 0, 0, 1), b'{half'); sys.exit(0)",
    "silence": "time.sleep(60)",
}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path, monkeypatch):
    """Every test here ends its processes and writes nothing into the folder that it runs in."""
    import psutil

    folder, temporary = tmp_path / "users", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert [process.cmdline() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert list(folder.iterdir()) == []
    assert [path.name for path in temporary.rglob("*") if path.is_file()] in ([], ["start.lock"])


@pytest.fixture
def patience(monkeypatch):
    """Wait for a killed process as long as a loaded machine takes to end it."""
    monkeypatch.setattr(launching, "_LAST_MOMENT", 30.0)


@pytest.fixture
def stand_in(monkeypatch):
    """Put a script in the place of the voxel server: `stand_in(text)` is what the launcher runs."""

    def put(text):
        def write(folder):
            minecraft, schemas = folder / "Minecraft", folder / "Schemas"
            minecraft.mkdir(parents=True)
            schemas.mkdir()
            script = minecraft / "launchClient.sh"
            script.write_text(text)
            script.chmod(0o755)
            return minecraft, schemas

        monkeypatch.setattr(launching, "write_stand_in", write)

    return put


def python_script(text):
    return f"#!{sys.executable}\n{text}"


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_through_the_client_is_the_voxel_worlds_own(task):
    env, world = envs.make_env(f"MineRL{task}-v0", server="voxel", episode_ticks=60), VoxelEnv(f"Voxel{task}-v0", episode_ticks=60)
    assert set(env.action_space.spaces) == set(world.action_space.spaces)
    played, own = env.reset(seed=0)[0], world.reset(seed=0)[0]
    world.action_space.seed(2)
    for tick in range(1, 61):
        _assert_equal(played, own, tick)
        assert played["pov"].flags["C_CONTIGUOUS"]
        action = world.action_space.sample()
        played, *ends, _ = env.step(action)
        own, *own_ends, _ = world.step(action)
        assert ends == own_ends, tick
    assert ends[2]
    _assert_equal(played, own, tick)
    env.close()


def _assert_equal(played, own, tick):
    assert played.keys() == own.keys()
    assert (played["pov"] == own["pov"]).all(), tick
    if "compass" in own:
        assert played["compass"]["angle"] == own["compass"]["angle"], tick
        assert played["inventory"]["dirt"] == own["inventory"]["dirt"], tick


def test_the_goal_ends_the_episode_with_its_reward():
    env, world = envs.make_env("MineRLNavigate-v0", server="voxel"), VoxelEnv("VoxelNavigate-v0")
    env.reset(seed=5)
    observation, info = world.reset(seed=5)
    player = envs.scripted_player("VoxelNavigate-v0", noise=0.0)
    for _ in range(1500):
        action = player(observation, info)
        observation, reward, terminated, _, info = world.step(action)
        result = env.step(action)
        if terminated:
            break
    assert terminated
    assert result[1:4] == (reward, True, False) == (100.0, True, False)
    env.close()


def test_gymnasium_and_stable_baselines_accept_it():
    env = envs.make_env("MineRLTreechop-v0", server="voxel", episode_ticks=30)
    check_env(env, skip_render_check=True)
    check_env_for_sb3(env)
    env.close()


def test_an_obfuscated_task_shows_the_same_frames_beside_a_vector():
    env, world = envs.make_env("MineRLTreechopVectorObf-v0", server="voxel"), VoxelEnv("VoxelTreechop-v0")
    observation, _ = env.reset(seed=9)
    assert (observation["pov"] == world.reset(seed=9)[0]["pov"]).all()
    assert observation["vector"].shape == (64,)
    env.action_space.seed(0)
    for _ in range(5):
        observation, *_ = env.step(env.action_space.sample())
        assert observation in env.observation_space
    env.close()


def test_a_client_of_the_users_own_attaches_to_the_server():
    import gym
    from minerl.env.malmo import InstanceManager

    command = [sys.executable, "-u", "-m", "envs.minerl.voxel_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    port = int(process.stdout.readline().rpartition(" ")[2])
    instance = InstanceManager.add_existing_instance(port)
    instance.had_to_clean = False
    client = gym.make("MineRLTreechop-v0", instances=[instance])
    client.seed(3)
    observation = client.reset()
    assert (observation["pov"] == VoxelEnv("VoxelTreechop-v0").reset(seed=3)[0]["pov"]).all()
    observation, reward, done, _ = client.step(client.action_space.noop())
    assert (reward, done) == (0.0, False)
    client.close()
    InstanceManager._instance_pool.remove(instance)
    process.stdout.close()
    # who reads its standard output is gone: so is the server
    assert process.wait(60) == 0


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_server_that_fails_is_a_dead_game_and_no_random_observation(stand_in, failure, monkeypatch):
    stand_in(python_script(SERVER.replace("FAILURE", failure)))
    game = LocalGame("MineRLTreechop-v0", server="voxel", timeout=60.0)
    game.reset(seed=0)
    if failure == FAILURES["silence"]:
        monkeypatch.setattr(launching, "_LAST_MOMENT", 0.5)
        game._launched.instance.client_socket.settimeout(1.0)
    with pytest.raises(GameDied, match=r"died at step 1: .*printed last: .*about to fail") as caught:
        game.step({"forward": 1})
    assert "\n" not in str(caught.value)
    assert game.processes() == []


@pytest.mark.usefixtures("patience")
def test_a_killed_server_is_started_anew_by_the_next_reset():
    game = LocalGame("MineRLTreechop-v0", server="voxel")
    first = game.reset(seed=1)["pov"]
    (process,) = game.processes()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(GameDied, match="ended with status -9"):
        for _ in range(3):
            game.step({"forward": 1})
    assert (game.reset(seed=1)["pov"] == first).all()
    assert game.processes() != [process]
    game.close()
    game.close()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho compiling\necho 'error: Unsupported class file major version 61'\nexit 1\n", "did not start; .*major version 61"),
        ("#!/bin/sh\necho waiting for a display\nexec sleep 60\n", "did not start within 5 s; .*waiting for a display"),
        ("#!/nowhere/python\n", "did not start"),
        (python_script("print('\\u2713' * 9000)"), "did not start; it printed last"),
    ],
    ids=["the wrong Java", "a hang", "no interpreter", "a long line"],
)
def test_a_start_that_fails_quotes_what_the_launcher_printed_last(stand_in, script, message):
    stand_in(script)
    game = LocalGame("MineRLTreechop-v0", server="voxel", start_timeout=5.0)
    with pytest.raises(GameDied, match=message) as caught:
        game.reset()
    assert len(str(caught.value)) < 600
    game.close()


def test_an_interrupt_while_a_game_starts_leaves_nothing(stand_in):
    stand_in("#!/bin/sh\nkill -INT $PPID\nexec sleep 60\n")
    game = LocalGame("MineRLTreechop-v0", server="voxel")
    with pytest.raises(KeyboardInterrupt):
        game.reset()
    assert game.processes() == []


def test_an_interrupt_in_the_middle_of_a_step_ends_the_game(stand_in):
    stand_in(python_script(SERVER.replace("FAILURE", "import os; os.kill(os.getppid(), 2); time.sleep(60)")))
    game = LocalGame("MineRLTreechop-v0", server="voxel")
    game.reset(seed=0)
    with pytest.raises(KeyboardInterrupt):
        game.step({"forward": 1})
    assert game.processes() == []
    with pytest.raises(GameDied, match="a step before a reset"):
        game.step({"forward": 1})


def test_the_ids_that_it_stands_in_for_are_those_it_plays():
    playable = []
    for name in installation.specs():
        try:
            LocalGame(name, server="voxel")
        except UserError:
            continue
        playable.append(name)
    assert sorted(playable) == sorted(STAND_INS)


def test_one_minecraft_starts_at_a_time():
    with launching.start_lock(1.0), pytest.raises(GameDied, match="has been starting for 0 s"):
        with launching.start_lock(0.1):
            pass
    with launching.start_lock(0.1):
        pass


def test_without_a_display_xvfb_is_asked_for(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="install xvfb"):
        launching.needs_xvfb(None)
    assert not launching.needs_xvfb(False)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not launching.needs_xvfb(None)


MINECRAFT = """#!/bin/sh
echo "$DISPLAY $MINERL_HEADLESS" > FOLDER/screen
sleep 60 &
exec SERVER
"""
SCREEN = """\
import os, sys, time
os.write(int(sys.argv[sys.argv.index("-displayfd") + 1]), b"77\\n")
time.sleep(60)
"""


def test_headless_minecraft_gets_a_screen_and_ends_with_it(tmp_path, monkeypatch):
    """A stand-in where Minecraft would be, with Minecraft's own way of starting; it also starts a process of its own."""
    from minerl.env.malmo import InstanceManager

    own, schemas = launching.write_stand_in(tmp_path / "installed")
    (own / "build" / "libs").mkdir(parents=True)
    (own / "build" / "libs" / "MalmoMod.jar").touch()
    server = own / "launchClient.sh"
    server.rename(own / "server.sh")
    server.write_text(MINECRAFT.replace("FOLDER", str(tmp_path)).replace("SERVER", f'{own}/server.sh "$@"'))
    server.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "Xvfb").write_text(python_script(SCREEN))
    (tmp_path / "bin" / "Xvfb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(InstanceManager, "MINECRAFT_DIR", str(own))
    monkeypatch.setattr(InstanceManager, "SCHEMAS_DIR", str(schemas))
    launched = launching.launch("minecraft", timeout=60.0)
    first, *others = launched.processes()
    assert len(others) == 3  # what it started, its screen, and the guard
    assert (tmp_path / "screen").read_text() == ":77 0\n"
    assert "DISPLAY" not in os.environ
    os.kill(first, signal.SIGKILL)
    assert launching._exit_status(launched.instance.minecraft_process, 60.0) == -signal.SIGKILL
    assert "ended with status -9" in launched.last_words()
    assert launched.processes() == others
    launched.end()
    assert launched.processes() == []
    assert [process for process in others if processes.identify(process)] == []


def test_a_screen_that_does_not_answer_is_a_failed_start_and_ends(tmp_path, monkeypatch):
    (tmp_path / "Xvfb").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "Xvfb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GameDied, match="Xvfb did not start: no answer within 1 s"):
        launching._start_screen(tmp_path, 1.0)


def test_a_game_whose_owner_is_killed_ends_with_all_it_has_started():
    game = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    watch = subprocess.Popen([sys.executable, "-I", guard.__file__, str(game.pid)], stdin=subprocess.PIPE)
    time.sleep(0.5)
    assert game.poll() is None
    watch.stdin.close()
    assert game.wait(60) == -signal.SIGTERM
    watch.kill()
    watch.wait()
