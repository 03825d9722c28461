"""Serve the voxel world over MineRL's socket protocol, in the place of Minecraft: python -m envs.minerl.voxel_server --port 9000"""

import argparse
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.minerl.mission import LONGEST_XML, Mission, MissionRefused, read_mission
from envs.voxel import tasks
from envs.voxel.env import VoxelEnv
from foundation.errors import UserError, in_one_line
from foundation.seeds import FIRST_EVALUATION_SEED

_OK = struct.pack("!I", 1)
_PATIENCE = 10.0
"""Seconds that the whole of a message that has begun may take, however its bytes are spread."""
_MOST = 10**6
"""Of a key's number: none that a player presses is larger."""


class BadMessage(Exception):
    """What came over the socket is not the protocol; `str()` says what it was."""


class World:
    """The mission that is being played: the client's commands in, what the protocol replies out."""

    def __init__(self, seeds: np.random.Generator) -> None:
        self._seeds = seeds
        self._mission: Mission | None = None
        self._env: VoxelEnv | None = None
        self._last: tuple[bytes, bytes] | None = None
        self._done = False
        self._keys: frozenset[str] = frozenset()

    def begin(self, xml: bytes, token: bytes) -> None:
        """Begin a mission: a new world from the token's seed (`token:role:0:agents:true[:seed]`), or from the next of the server's own."""
        mission = read_mission(xml)
        parts = token.decode("utf-8", "replace").split(":")
        try:
            seed = int(parts[5]) if len(parts) > 5 else int(self._seeds.integers(FIRST_EVALUATION_SEED))
        except ValueError:
            raise BadMessage(f"the seed is {in_one_line(repr(parts[5]))}, which is no number") from None
        if self._env is None or mission != self._mission:
            self._env = VoxelEnv(mission.task, mission.frame_size, mission.ticks)
            self._keys = frozenset(tasks.action_space(tasks.TASKS[mission.task]).spaces)
        self._mission, self._done = mission, False
        # Minecraft's seeds are signed 64-bit numbers, numpy's are not negative
        observation, info = self._env.reset(seed=seed % 2**64)
        self._last = self._encode(observation, info)

    def end(self) -> None:
        """Forget the mission."""
        self._last = None

    def peek(self) -> tuple[bytes, bytes]:
        """Return the last picture and info."""
        if self._last is None:
            raise BadMessage("a look at the world before a mission has begun")
        return self._last

    def step(self, commands: str) -> tuple[bytes, float, bool, bytes]:
        """Play one tick; return picture, reward, done, info. After the end nothing moves."""
        frame, told = self.peek()
        if self._done or self._env is None:
            return frame, 0.0, True, told
        observation, reward, terminated, truncated, info = self._env.step(self._action(commands))
        self._done = terminated or truncated
        self._last = self._encode(observation, info)
        return self._last[0], reward, self._done, self._last[1]

    def _action(self, commands: str) -> dict[str, Any]:
        """Read lines of `key value`; what a player cannot do in this world is left out."""
        action: dict[str, Any] = {}
        try:
            for line in commands.split("\n"):
                key, _, value = line.strip().partition(" ")
                if key == "camera":
                    pitch, yaw = value.split()
                    action[key] = (_bounded(float(pitch)), _bounded(float(yaw)))
                elif key in self._keys:
                    action[key] = value if key == "place" else int(_bounded(int(value)))
        except (ValueError, OverflowError):
            raise BadMessage(f"the command {in_one_line(repr(line))}") from None
        return action

    def _encode(self, observation: dict[str, Any], info: dict[str, Any]) -> tuple[bytes, bytes]:
        """Return a picture's bytes, RGB, bottom row first, and what else is seen as JSON."""
        told: dict[str, Any] = {}
        if "compass" in observation:
            told["compassAngle"] = float(observation["compass"]["angle"])
        if self._mission is not None and self._mission.tells_inventory:
            carried = (("dirt", info["dirt"]), ("log", info["logs"]))
            told["inventory"] = [{"type": item, "quantity": count, "metadata": 0} for item, count in carried if count]
        return observation["pov"][::-1].tobytes(), json.dumps(told).encode()


def _bounded(number: float) -> float:
    if not -_MOST <= number <= _MOST:
        raise ValueError("out of range")
    return number


class Connection:
    """One client: messages of a big-endian length and that many bytes."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._deadline = 0.0
        self._greeted = False
        self._mission_xml: bytes | None = None

    def receive(self) -> bytes | None:
        """Return the next message, None where the client has closed; raises `BadMessage` and `OSError`."""
        self._deadline = time.monotonic() + _PATIENCE
        head = self._read(4)
        if head is None:
            return None
        (length,) = struct.unpack("!I", head)
        if length > LONGEST_XML:
            raise BadMessage(f"a message of {length} bytes; at most {LONGEST_XML} are read")
        return self._read(length)

    def _read(self, count: int) -> bytes | None:
        received = b""
        while len(received) < count:
            self.peer.settimeout(max(self._deadline - time.monotonic(), 1e-3))
            more = self.peer.recv(count - len(received))
            if not more:
                return None
            received += more
        return received

    def send(self, *messages: bytes) -> None:
        self.peer.settimeout(_PATIENCE)
        # in one piece: three small packets would be three system calls, here and at the client's
        self.peer.sendall(b"".join(struct.pack("!I", len(message)) + message for message in messages))

    def answer(self, message: bytes, world: World) -> bool:
        """Do what a message asks for; return whether the connection stays. Raises `SystemExit` when told to exit."""
        if self._mission_xml is not None:
            world.begin(self._mission_xml, message)
            self._mission_xml = None
            self.send(_OK)
        elif message.startswith(b"<StepClient"):
            _, _, rest = message.partition(b">")
            commands, closing, _ = rest.rpartition(b"</StepClient")
            if not closing:
                raise BadMessage(f"a step that does not close: {message[:40]!r}")
            frame, reward, done, told = world.step(commands.decode("utf-8", "replace"))
            self.send(frame, struct.pack("!dbb", reward, done, 1), told)
        elif message.startswith(b"<StepServer"):
            pass
        elif message.startswith(b"<Peek"):
            self.send(*world.peek(), struct.pack("!b", 0))
        elif message.startswith(b"<MissionInit"):
            self._mission_xml = message
        else:
            return self._control(message, world)
        return True

    def _control(self, message: bytes, world: World) -> bool:
        if message.startswith(b"<MalmoEnv"):
            self._greeted = True
        elif not self._greeted:
            raise BadMessage(f"a greeting {message[:40]!r} that is not MineRL's")
        elif message.startswith(b"<Quit"):
            world.end()
            self.send(_OK)
        elif message.startswith(b"<Exit"):
            self.send(_OK)
            raise SystemExit(0)
        elif message.startswith(b"<Find"):
            self.send(struct.pack("!I", self.peer.getsockname()[1]))
        else:
            if not message.startswith(b"<Disconnect"):
                raise BadMessage(f"a message {message[:40]!r} that MineRL has not")
            return False
        return True


class VoxelServer:
    """Answers clients until one says Exit, or until who reads its standard output is gone."""

    def __init__(self, port: int, seed: int | None = None) -> None:
        self._world = World(np.random.default_rng(seed))
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", port))
        except OSError as error:
            # MineRL's client reads from the next line which port it has become
            print(f"port {port} cannot be had ({error.strerror}); the system chooses one", flush=True)
            self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._connections: dict[int, Connection] = {}

    def announce(self) -> None:
        """Print what MineRL's launcher waits for."""
        print(f"***** Start MalmoEnvServer on port {self.port}", flush=True)
        print("CLIENT enter state: DORMANT", flush=True)

    def serve(self) -> None:
        """Answer, one message after the other, whoever sent it."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        # no events: the poll tells nothing but that the reader has gone
        poll.register(sys.stdout, 0)
        while True:
            for handle, _ in poll.poll():
                if handle == self._listener.fileno():
                    connection = Connection(self._listener.accept()[0])
                    self._connections[connection.peer.fileno()] = connection
                    poll.register(connection.peer, select.POLLIN)
                elif handle not in self._connections:
                    return
                elif not self._serve_one(self._connections[handle]):
                    poll.unregister(handle)
                    self._connections.pop(handle).peer.close()

    def _serve_one(self, connection: Connection) -> bool:
        try:
            message = connection.receive()
            return message is not None and connection.answer(message, self._world)
        except (BadMessage, MissionRefused, UserError, OSError, ValueError) as error:
            print(f"the voxel world closes a connection: {in_one_line(error, 300)}", flush=True)
            return False


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options that MineRL's launcher gives, and serve."""
    parser = argparse.ArgumentParser(description="Serve the voxel world over MineRL's socket protocol, in the place of Minecraft.")
    parser.add_argument("--port", "-port", type=_port, default=0, help="where to listen; taken or 0: a free one, printed")
    parser.add_argument("--seed", "-seed", type=_seed, help="from which the worlds of missions without a seed follow")
    for flag in ("-env", "-replaceable"):
        parser.add_argument(flag, action="store_true", help="of MineRL's launcher; makes no difference")
    for option in ("-runDir", "-performanceDir", "-jvm_debug_port"):
        parser.add_argument(option, help="of MineRL's launcher; makes no difference")
    options = parser.parse_args(argv)
    server = VoxelServer(options.port, options.seed)
    server.announce()
    server.serve()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError(f"{port}: ports go from 0 to {2**16 - 1}")
    return port


def _seed(text: str) -> int:
    """Read the first of the launcher's seeds, which it joins by commas."""
    return abs(int(text.partition(",")[0]))


if __name__ == "__main__":
    main()
