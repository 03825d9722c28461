"""The voxel server, spoken to in the bare protocol: what MineRL's client relies on, and what a stranger's bytes do."""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from envs.minerl.mission import MissionRefused, read_mission
from envs.minerl.voxel_server import BadMessage, Connection, World
from envs.voxel.env import VoxelEnv

ROOT = Path(__file__).resolve().parents[3]
LOGS = '<RewardForPossessingItem><Item amount="1" reward="1.0" type="log"/></RewardForPossessingItem>'
GOAL = '<RewardForTouchingBlockType><Block reward="100.0" type="diamond_block"/></RewardForTouchingBlockType>'
DENSE = '<RewardForDistanceTraveledToCompassTarget rewardPerBlock="1.0" density="PER_TICK"/>'
LAST_LOG = '<AgentQuitFromPossessingItem><Item type="log" amount="64"/></AgentQuitFromPossessingItem>'
TOUCH = '<AgentQuitFromTouchingBlockType><Block type="diamond_block"/></AgentQuitFromTouchingBlockType>'
COMPASS = "<ObservationFromCompass/><ObservationFromFullInventory/>"


def mission(handlers, held, milliseconds=400_000, size=64, extra=""):
    return f"""<MissionInit xmlns="http://ProjectMalmo.microsoft.com"><Mission>
        <ModSettings><MsPerTick>50</MsPerTick></ModSettings>
        <ServerQuitFromTimeUp timeLimitMs="{milliseconds}"/>{extra}
        <AgentStart><Inventory><InventoryObject slot="0" type="{held}"/></Inventory></AgentStart>
        <VideoProducer want_depth="false"><Width>{size} </Width><Height>{size}</Height></VideoProducer>
        {handlers}</Mission></MissionInit>""".encode()


def treechop(**changes):
    return mission(LOGS + LAST_LOG, "iron_axe", **changes)


def navigate(**changes):
    return mission(GOAL + DENSE + TOUCH + COMPASS, "compass", **changes)


class Client:
    """Speaks the protocol, message by message."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.send(b"<MalmoEnv0.37.0/>")

    def send(self, message):
        self.socket.sendall(struct.pack("!I", len(message)) + message)

    def receive(self):
        (length,) = struct.unpack("!I", self._exactly(4))
        return self._exactly(length)

    def _exactly(self, count):
        received = self.socket.recv(count, socket.MSG_WAITALL)
        if len(received) < count:
            raise ConnectionResetError
        return received

    def start(self, xml, seed=""):
        self.send(xml)
        self.send(f"a-token:0:0:1:true{seed}".encode())
        assert struct.unpack("!I", self.receive()) == (1,)
        self.send(b"<Peek/>")
        frame, told, done = self.receive(), self.receive(), self.receive()
        assert struct.unpack("!b", done) == (0,)
        return frame, json.loads(told)

    def step(self, commands):
        self.send(f"<StepClient0>{commands}</StepClient0 >".encode())
        frame, (reward, done, _), told = self.receive(), struct.unpack("!dbb", self.receive()), self.receive()
        self.send(b"<StepServer></StepServer>")
        return frame, reward, done, json.loads(told)

    def is_closed(self):
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def start_server(*options):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "envs.minerl.voxel_server", *options], stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
    )
    lines = [process.stdout.readline()]
    while "DORMANT" not in lines[-1] and lines[-1]:
        lines.append(process.stdout.readline())
    ports = [int(line.rpartition(" ")[2]) for line in lines if "Start MalmoEnvServer on port " in line]
    return process, ports[0], "".join(lines)


@pytest.fixture(scope="module")
def server():
    process, port, _ = start_server("-port", "0", "-env", "-runDir", "run", "-seed", "7,8")
    yield process, port
    process.kill()
    process.communicate()


@pytest.fixture
def client(server):
    client = Client(server[1])
    yield client
    client.socket.close()


def pixels(frame):
    return np.frombuffer(frame, np.uint8).reshape(64, 64, 3)[::-1]


def command(action):
    pitch, yaw = (float(angle) for angle in action["camera"])
    keys = [f"{key} {value}" for key, value in action.items() if key not in ("camera", "place")]
    place = [f"place {('dirt', 'none')[action['place']]}"] if "place" in action else []
    return "\n".join([*keys, f"camera {pitch} {yaw}", *place])


@pytest.mark.parametrize(("xml", "task"), [(treechop, "VoxelTreechop-v0"), (navigate, "VoxelNavigateDense-v0")])
def test_an_episode_over_the_protocol_is_the_voxel_worlds_own(client, xml, task):
    world = VoxelEnv(task, episode_ticks=40)
    observation, _ = world.reset(seed=0)
    frame, told = client.start(xml(milliseconds=2000), seed=":0")
    world.action_space.seed(1)
    done = False
    for tick in range(1, 41):
        assert (pixels(frame) == observation["pov"]).all(), tick
        if "compass" in observation:
            assert told["compassAngle"] == observation["compass"]["angle"]
        action = world.action_space.sample()
        observation, reward, _, truncated, _ = world.step(action)
        frame, paid, done, told = client.step(command(action))
        assert (paid, bool(done)) == (reward, truncated)
    assert done
    assert (pixels(frame) == observation["pov"]).all()


def test_the_inventory_is_told(client):
    world = VoxelEnv("VoxelNavigate-v0")
    world.reset(seed=3)
    _, told = client.start(navigate(), seed=":3")
    assert told["inventory"] == []
    for _ in range(60):
        observation, *_ = world.step({"attack": 1, "camera": (20.0, 0.0)})
        _, _, _, told = client.step("attack 1\ncamera 20.0 0.0")
    dirt = int(observation["inventory"]["dirt"])
    assert dirt > 0
    assert told["inventory"] == [{"type": "dirt", "quantity": dirt, "metadata": 0}]


def test_after_the_end_nothing_moves(client):
    client.start(treechop(milliseconds=100), seed=":4")
    client.step("camera 5 5")
    frame, _, done, _ = client.step("camera 5 5")
    assert done == 1
    assert client.step("camera 5 5")[:3] == (frame, 0.0, 1)


def test_a_seed_is_a_world_and_without_one_worlds_differ(client):
    frames = [client.start(treechop(), seed)[0] for seed in (":0", "", "", ":0", ":-1", ":-1")]
    assert frames[0] == frames[3]
    assert frames[4] == frames[5]
    assert len(set(frames)) == 4


def test_quit_is_answered_and_leaves_the_connection_for_the_next_mission(client):
    client.start(treechop(), ":1")
    client.send(b"<Quit/>")
    assert struct.unpack("!I", client.receive()) == (1,)
    client.send(b"<Find>a-token</Find>")
    assert struct.unpack("!I", client.receive())[0] == client.socket.getpeername()[1]
    assert client.start(treechop(), ":1")[0] == client.start(treechop(), ":1")[0]


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1",
        b"<Peek/>",
        b"<StepClient0>camera a b</StepClient0 >",
        b"<StepClient0>forward 1",
        b"<StepClient0>place stone</StepClient0 >",
    ],
)
def test_what_is_not_the_protocol_closes_that_connection_and_no_other(server, client, message):
    client.start(navigate(), ":1")
    other = Client(server[1])
    if message == b"<Peek/>":
        other.send(b"<Quit/>")
        other.receive()
    other.send(message)
    assert other.is_closed()
    other.socket.close()
    assert len(client.start(treechop(), ":2")[0]) == 64 * 64 * 3


def test_a_message_that_claims_gigabytes_is_not_waited_for(client):
    client.socket.sendall(struct.pack("!I", 2**32 - 1))
    assert client.is_closed()


def test_a_refused_mission_closes_the_connection(client):
    client.send(mission("", "iron_axe"))
    client.send(b"a-token:0:0:1:true")
    assert client.is_closed()


def test_a_taken_port_gives_way_to_another_which_is_announced(server):
    process, port, said = start_server("-port", str(server[1]))
    assert port != server[1]
    assert f"port {server[1]} cannot be had" in said
    client = Client(port)
    client.send(b"<Exit>NOW</Exit>")
    assert struct.unpack("!I", client.receive()) == (1,)
    assert process.wait(10) == 0
    process.stdout.close()
    client.socket.close()


BILLION = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><MissionInit>&b;</MissionInit>'
FILE = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><MissionInit>&a;</MissionInit>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (BILLION, "document type"),
        (FILE, "document type"),
        (b"<MissionInit>", "no XML"),
        (b"<MissionInit>" + b" " * 2**21, "bytes of XML"),
        (mission("", "iron_axe"), "no task that rewards nothing"),
        (mission(LOGS.replace('"1.0"', '"2.0"') + LAST_LOG, "iron_axe"), "log .PossessingItem, 2."),
        (mission(LOGS.replace('"1.0"', '"lots"') + LAST_LOG, "iron_axe"), "'lots', which is no number"),
        (mission(LOGS + TOUCH, "iron_axe"), "ends with"),
        (mission(LOGS + LAST_LOG, "diamond_axe"), "starts with"),
        (treechop(extra='<BiomeGenerator biome="3"/>'), "biomes"),
        (treechop(extra='<AgentStart><Placement x="1"/></AgentStart>'), "Placement"),
        (treechop(size=4), "squares of 8 to 1024"),
        (treechop(milliseconds=20), "no tick"),
        (treechop().replace(b'want_depth="false"', b'want_depth="true"'), "no depth"),
        (treechop().replace(b"<Width>64 ", b"<Width>640 "), "640 by 64"),
    ],
)
def test_a_mission_that_the_voxel_world_cannot_play_is_refused_with_the_reason(xml, message):
    with pytest.raises(MissionRefused, match=message):
        read_mission(xml)


def test_the_mission_says_task_length_and_size_whatever_its_name():
    played = read_mission(treechop(milliseconds=10_000, size=32, extra="<About><Summary>MineRLObtainDiamond-v0</Summary></About>"))
    assert (played.task, played.ticks, played.frame_size, played.tells_inventory) == ("VoxelTreechop-v0", 200, 32, False)
    assert read_mission(navigate()).task == "VoxelNavigateDense-v0"
    assert read_mission(navigate().replace(DENSE.encode(), b"")).task == "VoxelNavigate-v0"


def test_a_client_that_sends_a_byte_now_and_then_has_no_more_time_than_one_that_sends_none(monkeypatch) -> None:
    monkeypatch.setattr("envs.minerl.voxel_server._PATIENCE", 0.5)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    monkeypatch.setattr(socket, "TCP_NODELAY", socket.SO_KEEPALIVE)
    monkeypatch.setattr(socket, "IPPROTO_TCP", socket.SOL_SOCKET)
    ours.sendall(struct.pack("!I", 200))

    def drip():
        with suppress(OSError):
            while True:
                ours.send(b"x")
                time.sleep(0.05)

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(TimeoutError):
        Connection(theirs).receive()
    ours.close()
    theirs.close()
    thread.join()


@pytest.mark.parametrize(
    "command", ["forward 9" + "9" * 400, "forward 99999999999", "camera 1e300 0", "camera nan 0", "jump " + "1" * 5000]
)
def test_numbers_that_no_player_sends_close_the_connection_in_one_line(command) -> None:
    world = World(np.random.default_rng(0))
    world.begin(treechop(), b"token:0:0:agents:true:1")
    with pytest.raises(BadMessage) as refused:
        world.step(command)
    assert len(str(refused.value)) < 300
    world.step("forward 1")
