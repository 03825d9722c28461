"""The `minerl` client in an interpreter of its own: python worker.py HANDLE, where HANDLE is an open socket to who asks.

This file runs by its path in the interpreter that has `minerl`: Python 3.8 or newer with whatever numpy and gym `minerl` wants,
without gymnasium and without the rest of this product. A message is JSON and the bytes of arrays; nothing is pickled, since an
array pickled by one numpy does not load in another. (`from __future__` lets Python 3.8 pass over today's annotations.)
"""

from __future__ import annotations

import glob
import json
import logging
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

OLDEST_PYTHON = (3, 8)
MARK = "MINERL_PERCEPTION_GAME"

_HEAD = struct.Struct("!II")
_LONGEST_TEXT, _LONGEST_ARRAYS = 1 << 24, 1 << 28
_ALIGNMENT = 8
_ARRAY = "__array__"


class Channel:
    """Messages over a connected socket: lengths of text and arrays (big-endian), JSON, then the arrays' bytes in C order.

    In the JSON, `{"__array__": [offset, dtype, shape]}` stands for an array. Values are what JSON has, numpy arrays and numbers.
    """

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer

    def send(self, value: Any, timeout: float | None = None) -> None:
        """Send one message; raises `TypeError` for what a message cannot hold, `OSError` where nobody listens."""
        self.peer.settimeout(timeout)
        arrays = bytearray()
        text = json.dumps(_pack(value, arrays)).encode()
        self.peer.sendall(_HEAD.pack(len(text), len(arrays)) + text + arrays)

    def receive(self, timeout: float | None = None) -> Any:
        """Return the next message; `timeout` is in seconds for the whole of it.

        Raises `EOFError` where the other side has closed (half a message included), `TimeoutError` and `ValueError`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        text_length, arrays_length = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if text_length > _LONGEST_TEXT or arrays_length > _LONGEST_ARRAYS:
            raise ValueError(f"a message of {text_length + arrays_length} bytes")
        text = self._read(text_length, deadline)
        arrays = self._read(arrays_length, deadline)
        return _unpack(json.loads(text), arrays)

    def close(self) -> None:
        self.peer.close()

    def _read(self, count: int, deadline: float | None) -> bytearray:
        received = bytearray(count)
        view, got = memoryview(received), 0
        while got < count:
            if deadline is not None:
                # 0 would mean: do not wait
                self.peer.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                more = self.peer.recv_into(view[got:])
            # in Python 3.8 not yet a TimeoutError
            except socket.timeout as error:  # noqa: UP041
                raise TimeoutError("no answer") from error
            except ConnectionError:
                more = 0
            if not more:
                raise EOFError("half a message" if got else "the connection is closed")
            got += more
        return received


def _pack(value: Any, arrays: bytearray) -> Any:
    """Return what JSON can hold of a value; append the bytes of its arrays."""
    if isinstance(value, dict):
        return {str(key): _pack(inner, arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(inner, arrays) for inner in value]
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind == "U":
            return array.tolist()
        if array.dtype.kind not in "biuf":
            raise TypeError(f"an array of {array.dtype}")
        arrays.extend(b"\0" * (-len(arrays) % _ALIGNMENT))
        offset = len(arrays)
        arrays.extend(array.tobytes())
        return {_ARRAY: [offset, array.dtype.str, list(array.shape)]}
    return value


def _unpack(value: Any, arrays: bytearray) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, arrays) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {_ARRAY}:
        return {key: _unpack(inner, arrays) for key, inner in value.items()}
    offset, name, shape = value[_ARRAY]
    dtype = np.dtype(str(name))
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.kind not in "biuf" or offset < 0 or count < 0 or offset + count * dtype.itemsize > len(arrays):
        raise ValueError("an array that its message does not hold")
    return np.frombuffer(arrays, dtype, count, offset).reshape(shape)


def describe(space: Any) -> dict[str, Any]:
    """Describe a space of `minerl` or gym in plain JSON values; raises `TypeError` for a kind that MineRL's tasks do not have."""
    kinds = {kind.__name__ for kind in type(space).__mro__}
    if "Dict" in kinds:
        return {"type": "dict", "spaces": {key: describe(inner) for key, inner in space.spaces.items()}}
    if "Enum" in kinds:
        return {"type": "enum", "values": [str(value) for value in space.values], "default": str(space.default)}
    if "MultiDiscrete" in kinds:
        return {"type": "multi_discrete", "nvec": [int(n) for n in space.nvec]}
    if "Discrete" in kinds:
        return {"type": "discrete", "n": int(space.n)}
    if "Text" in kinds:
        return {"type": "text"}
    if "Box" in kinds:
        low, high = _bound(space.low), _bound(space.high)
        return {"type": "box", "low": low, "high": high, "shape": list(space.shape), "dtype": np.dtype(space.dtype).name}
    raise TypeError(f"no counterpart for the space {space!r}")


def _bound(bound: Any) -> Any:
    """Return one number where all entries have the same bound, else nested lists."""
    flat = np.asarray(bound).reshape(-1)
    return flat[0].item() if (flat == flat[0]).all() else np.asarray(bound).tolist()


class Client:
    """Plays what it is asked to: each request names a method in `call`, the rest are its arguments."""

    def __init__(self) -> None:
        self._specs: dict[str, Any] = {}
        self._env: Any = None

    def open(self) -> dict[str, Any]:
        """Import `minerl`; return its version, the ids of its tasks and whether Minecraft came with it. Starts nothing."""
        # without a handler, Python prints minerl's log of Minecraft's output on standard error
        logging.getLogger("minerl").addHandler(logging.NullHandler())
        import minerl  # noqa: F401
        from gym.envs import registration

        entries = getattr(registration.registry, "env_specs", registration.registry)
        for name, entry in entries.items():
            kwargs = getattr(entry, "_kwargs", None) or getattr(entry, "kwargs", None) or {}
            if name.startswith("MineRL") and "env_spec" in kwargs:
                self._specs[name] = kwargs["env_spec"]
        return {"minerl": _version("minerl"), "ids": sorted(self._specs), "minecraft": _has_minecraft()}

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task's spaces and length, and make its client; starts nothing."""
        spec = self._specs[task_id]
        self._env = spec.make(is_fault_tolerant=False)
        # the client would kill the game that it cannot reach, and go on with one that has no connection
        self._env._TO_MOVE_handle_frozen_minecraft = lambda instance: None
        return {
            "observation_space": describe(spec.observation_space),
            "action_space": describe(spec.action_space),
            "max_episode_steps": int(spec.max_episode_steps),
            "mission": spec.to_xml(),
        }

    def stand_in(self, minecraft: str, schemas: str) -> None:
        """Let the launcher start what lies in these folders in the place of Minecraft."""
        from minerl.env import malmo

        malmo.InstanceManager.MINECRAFT_DIR, malmo.InstanceManager.SCHEMAS_DIR = minecraft, schemas
        launch = malmo.MinecraftInstance.launch
        # daemonize: without minerl's watcher, which takes seconds to start; a stand-in sees by itself that this process has gone
        malmo.MinecraftInstance.launch = lambda self, daemonize=False, replaceable=True: launch(self, True, replaceable)

    def headless(self) -> None:
        """Start an X server without a screen for Minecraft."""
        reading, writing = os.pipe()
        subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"], pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        if not number:
            raise RuntimeError("Xvfb did not start")
        os.environ["DISPLAY"] = ":" + number

    def reset(self, seed: int | None) -> Any:
        """Start the game where it does not run, and begin an episode; return its first observation."""
        self._env.seed(seed)
        return self._env.reset()

    def step(self, action: dict[str, Any]) -> list[Any]:
        """Advance one tick; return observation, reward, done, info."""
        observation, reward, done, info = self._env.step(action)
        if "error" in info:
            # what came with it is no observation but a random sample of the space; the client calls every loss a time-out
            raise ConnectionError("the connection to the game broke off")
        return [observation, float(reward), bool(done), {str(key): _sayable(value) for key, value in info.items()}]


def _sayable(value: Any) -> Any:
    """Return a value that a message can hold, as it is or as text."""
    try:
        json.dumps(_pack(value, bytearray()))
    except (TypeError, ValueError):
        return str(value)
    return value


def _has_minecraft() -> bool:
    from minerl.env.malmo import InstanceManager

    return bool(glob.glob(os.path.join(glob.escape(InstanceManager.MINECRAFT_DIR), "build", "libs", "*.jar")))


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of an unknown version"


def _told(error: Exception) -> str:
    """Say what went wrong in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    # what minerl makes of a message that ends too early
    cut = isinstance(error, (struct.error, TypeError, AttributeError))
    return f"half a message ({type(error).__name__}: {text})" if cut else text


def _watch(peer: socket.socket, folder: str) -> None:
    """End everything once who asks is gone, whatever the client is waiting for at that moment."""
    poll = select.poll()
    # no events: the poll tells nothing but that the other side has gone
    poll.register(peer, 0)
    poll.poll()
    _end_everything(folder)


def _end_everything(folder: str) -> None:
    """Kill what this process has started, even what no longer descends from it, remove what it wrote, and exit."""
    try:
        import psutil

        mark = os.environ[MARK]
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                    process.kill()
            except psutil.Error:
                continue
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(0)


def main() -> None:
    # the folder of this file comes first in the path, and its names are not the ones that minerl means
    sys.path.pop(0)
    peer = socket.socket(fileno=int(sys.argv[1]))
    # or else the games that this process starts would keep the connection open
    peer.set_inheritable(False)
    channel, client, folder = Channel(peer), Client(), os.getcwd()
    channel.send({"python": list(sys.version_info[:3])})
    threading.Thread(target=_watch, args=(peer, folder), daemon=True).start()
    while True:
        try:
            request = channel.receive()
        except EOFError:
            _end_everything(folder)
        method = getattr(client, request.pop("call"))
        try:
            channel.send({"value": method(**request)})
        # whatever the client stumbles over: a lost connection is an AttributeError or a struct.error, as chance will have it
        except Exception as error:
            channel.send({"error": _told(error)})


if __name__ == "__main__":
    main()
