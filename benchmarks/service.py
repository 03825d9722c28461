"""What the perception service costs beside an encoder of one's own: requests/s, latencies, rows a call and CPU time, in one run.

python benchmarks/service.py [--preset cwvae_tiny] [--clients 1 4 16 64] [--rows 1 8] [--seconds 2] [--cluster 1 2] [--workers 2 4]

The service is a process of its own, and with --cluster also one of so many replicas on Ray Serve; its clients are threads of another
process that keep the encoder's memory, as `RemoteEncoder` does. The bare encode (`FrozenEncoder`, batches of 8) takes turns with them,
so that a busy machine hurts all alike: ratios are medians of pairs. "by CPU" is the bare encode's CPU time for a request's frames over
all that the service's process takes for it, its clients not counted.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
# in place of this folder, in which `ray` and `service` would be files of benchmarks
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from encoders import StoreReference, make_encoder, prepare
from foundation.command import run
from foundation.presets import parse
from wrappers import FrozenEncoder, RemoteEncoder, VecLatent
from wrappers.inference_messages import LENGTH_HEADER, infer_request

ROOT = Path(__file__).resolve().parent.parent
_CHUNK = 8
_WAYS = ("own", "alone", "fast")
"""How a Ray worker encodes: by itself, or through the service in either way."""


@dataclass
class Benchmark:
    """What to measure."""

    preset: str = "cwvae_tiny"
    """Of the encoder, untrained."""
    batching: tuple[str, ...] = ("exact", "fast")
    clients: tuple[int, ...] = (1, 4, 16, 64)
    rows: tuple[int, ...] = (1, 8)
    """Frames of a request."""
    seconds: float = 2.0
    """Time for each turn."""
    turns: int = 5
    cluster: tuple[int, ...] = ()
    """Numbers of replicas of further services, on Ray Serve, that take turns with the embedded one."""
    workers: tuple[int, ...] = ()
    """Numbers of Ray workers, each with 8 environments that cost nothing, that share the service or have an encoder each."""


@dataclass(frozen=True)
class Server:
    """A service that is measured."""

    name: str
    address: str
    pid: int
    replicas: int = 1


@dataclass
class Turn:
    """What came of the clients' turn, and of the bare encode's before it."""

    requests: int
    seconds: float
    latencies: list[float]
    server_cpu: float
    rows: int
    calls: int
    bare_rate: float
    """Frames/s."""
    bare_cpu: float
    """Seconds a frame."""
    bare_ms: float
    """Median of a call with as many rows as a request."""


def main() -> None:
    """Print a line for each way of batching, number of clients and rows; and one for each number of Ray workers."""
    config = parse(Benchmark, "The service beside the bare encoder.")
    torch.set_num_threads(1)
    with TemporaryDirectory() as place, ExitStack() as stack:
        folder = untrained(config.preset, Path(place) / "encoder")
        servers = [Server("embedded", *stack.enter_context(serving(folder)))]
        for replicas in config.cluster:
            (Path(place) / "cluster.yaml").write_text(f"num_replicas: {replicas}\n")
            found = stack.enter_context(serving(folder, "--cluster", str(Path(place) / "cluster.yaml")))
            servers.append(Server(f"Serve, {replicas} replica{'' if replicas == 1 else 's'}", *found, replicas))
        show_clients(config, folder, servers)
        if config.workers:
            show_workers(config, folder, servers[0].address)


def show_clients(config: Benchmark, folder: Path, servers: list[Server]) -> None:
    """Print what clients get."""
    table = Table(title=f"{config.preset}: clients of a service beside the bare encode in batches of 8, medians of {config.turns} turns")
    for column in ("server", "batching", "clients", "rows", "requests/s", "frames/s", "of bare", "by CPU", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for column in ("over bare ms", "rows a call", "CPU us a request", "bare CPU us"):
        table.add_column(column, justify="right")
    frozen = FrozenEncoder(folder)
    ours, theirs = get_context("spawn").Pipe()
    crowd = get_context("spawn").Process(target=crowds, args=(theirs,), daemon=True)
    crowd.start()
    # then its end is noticed
    theirs.close()
    for batching in config.batching:
        for clients in config.clients:
            for rows in config.rows:
                turns: dict[Server, list[Turn]] = {server: [] for server in servers}
                for _ in range(config.turns):
                    for server, taken in turns.items():
                        taken.append(take_turn(frozen, ours, server, batching, clients, rows, config.seconds))
                for server, taken in turns.items():
                    table.add_row(server.name, batching, str(clients), str(rows), *shown(taken, rows))
    ours.send(None)
    crowd.join()
    Console(width=190).print(table)


def shown(turns: list[Turn], rows: int) -> list[str]:
    """Return the numbers of a line."""

    def of(value: Any) -> float:
        return median(value(turn) for turn in turns)

    latencies = np.sort(np.concatenate([turn.latencies for turn in turns]))
    return [
        f"{of(lambda turn: turn.requests / turn.seconds):,.0f}",
        f"{of(lambda turn: rows * turn.requests / turn.seconds):,.0f}",
        f"{of(lambda turn: rows * turn.requests / turn.seconds / turn.bare_rate):.2f}",
        f"{of(lambda turn: rows * turn.requests * turn.bare_cpu / turn.server_cpu):.2f}",
        f"{1000 * float(np.percentile(latencies, 50)):.1f}",
        f"{1000 * float(np.percentile(latencies, 99)):.1f}",
        f"{of(lambda turn: 1000 * float(np.median(turn.latencies)) - turn.bare_ms):+.1f}",
        f"{of(lambda turn: turn.rows / max(turn.calls, 1)):.1f}" if all(turn.calls for turn in turns) else "",
        f"{of(lambda turn: 1e6 * turn.server_cpu / turn.requests):,.0f}",
        f"{of(lambda turn: 1e6 * rows * turn.bare_cpu):,.0f}",
    ]


# a way of asking, a way of measuring, and the two sides that are measured
def take_turn(frozen: FrozenEncoder, crowd: Connection, server: Server, batching: str, clients: int, rows: int, seconds: float) -> Turn:
    """Let the bare encoder work for a while, then the service's clients."""
    bare_rate, bare_cpu = bare(frozen, _CHUNK, seconds / 2)[:2]
    bare_ms = bare(frozen, rows, seconds / 4)[2]
    crowd.send((server.address, batching, clients, rows, seconds))
    assert crowd.recv() == "ready"
    before, cpu = counts(server), cpu_seconds(server.pid)
    crowd.send("go")
    latencies, passed = crowd.recv()
    cpu, after = cpu_seconds(server.pid) - cpu, counts(server)
    return Turn(len(latencies), passed, latencies, cpu, after[0] - before[0], after[1] - before[1], bare_rate, bare_cpu, bare_ms)


def bare(frozen: FrozenEncoder, rows: int, seconds: float) -> tuple[float, float, float]:
    """Return frames/s, CPU seconds a frame, and the median milliseconds of a call."""
    frames, action = sample(frozen, rows)
    _, state = frozen.encode(frames, None, action)
    times, cpu, begun = [], time.process_time(), time.perf_counter()
    while time.perf_counter() < begun + seconds or len(times) < 3:
        now = time.perf_counter()
        _, state = frozen.encode(frames, state, action)
        times.append(time.perf_counter() - now)
    count = rows * len(times)
    return count / (time.perf_counter() - begun), (time.process_time() - cpu) / count, 1000 * median(times)


def crowds(control: Connection) -> None:
    """Be as many clients as is asked for, as often as it is."""
    while (asked := control.recv()) is not None:
        address, batching, clients, rows, seconds = asked
        encoder = RemoteEncoder(address)
        crowd = [Client(encoder, batching, rows) for _ in range(clients)]
        for client in crowd:
            client.begin()
        control.send("ready")
        control.recv()
        begun = time.perf_counter()
        threads = [threading.Thread(target=client.ask_until, args=(begun + seconds,)) for client in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = time.perf_counter() - begun
        control.send(([one for client in crowd for one in client.latencies], passed))
        for client in crowd:
            client.socket.close()


class Client:
    """Asks one question after the other over a connection of its own, each with the memory that the last answer brought.

    Written down as bytes once, so that the service is measured and not Python's HTTP.
    """

    def __init__(self, encoder: RemoteEncoder, batching: str, rows: int) -> None:
        frames, action = sample(encoder, rows)
        inputs = {"frames": frames, **({} if action is None else {"action": action})}
        inputs |= {name: tensor.numpy() for name, tensor in encoder.initial_state(rows).items()}
        body, head = infer_request(inputs, [encoder._output, *encoder.initial_state(1)], {"batching": batching})
        self.size = sum(tensor.numel() for tensor in encoder.initial_state(rows).values())
        request = f"POST /v2/models/{encoder.address.name}/infer HTTP/1.1\r\nHost: {encoder.address.host}\r\n"
        request += f"Content-Type: application/octet-stream\r\n{LENGTH_HEADER}: {head}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.request = bytearray(request.encode() + body)
        self.place = encoder.address.host, encoder.address.port
        self.latencies: list[float] = []

    def begin(self) -> None:
        """Connect and ask once: a connection that says nothing for seconds is closed."""
        self.socket = socket.create_connection(self.place, 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask()

    def ask(self) -> None:
        self.socket.sendall(self.request)
        answer = bytearray()
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        length = re.search(rb"content-length: *(\d+)", answer[:end].lower())
        assert length is not None
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        while len(answer) < end + 4 + int(length[1]):
            answer += self._more()
        if self.size:
            # the memory is the last of the answer and of the question
            self.request[-self.size :] = answer[-self.size :]

    def ask_until(self, end: float) -> None:
        while (begun := time.perf_counter()) < end:
            self.ask()
            self.latencies.append(time.perf_counter() - begun)

    def _more(self) -> bytes:
        content = self.socket.recv(1 << 16)
        assert content, "the service hung up"
        return content


def show_workers(config: Benchmark, folder: Path, address: str) -> None:
    """Print how many frames/s Ray workers encode together that share the service, and that have an encoder each."""
    table = Table(title=f"{config.preset}: frames/s of Ray workers with 8 environments each, medians of {config.turns} turns")
    for column in ("workers", "an encoder each", "a service, alone", "of it", "a service, fast", "of it"):
        table.add_column(column, justify="right")
    for workers in config.workers:
        turns = worker_rates(workers, folder, address, config.seconds, config.turns)
        row = [f"{median(turn['own'] for turn in turns):,.0f}"]
        for way in ("alone", "fast"):
            row += [f"{median(turn[way] for turn in turns):,.0f}", f"{median(turn[way] / turn['own'] for turn in turns):.2f}"]
        table.add_row(str(workers), *row)
    Console().print(table)


def worker_rates(workers: int, folder: Path, address: str, seconds: float, turns: int) -> list[dict[str, float]]:
    """Return frames/s with encoders of their own and with the service's two ways, turn by turn."""
    import ray

    from foundation.local_ray import local_ray

    found = []
    # more workers than this machine has cores wait for the service, not for a core
    with local_ray(max(workers, 1)):
        crowd = [ray.remote(num_cpus=1)(Worker).remote(str(folder), address) for _ in range(workers)]
        ray.get([one.steps.remote(0.2, way) for one in crowd for way in _WAYS])
        for _ in range(turns):
            found.append({way: sum(ray.get([one.steps.remote(seconds, way) for one in crowd])) for way in _WAYS})
    return found


class Worker:
    """A Ray worker with environments that cost nothing, seen through either encoder."""

    def __init__(self, folder: str, address: str) -> None:
        from benchmarks.vec_latent import StillVecEnv

        torch.set_num_threads(1)
        encoders = {"own": FrozenEncoder(folder), "alone": RemoteEncoder(address), "fast": RemoteEncoder(address, batching="fast")}
        self.venvs = {way: VecLatent(StillVecEnv(), encoder, any_rate=True) for way, encoder in encoders.items()}
        for venv in self.venvs.values():
            venv.reset()

    def steps(self, seconds: float, way: str) -> float:
        """Step for a while and return frames/s."""
        venv, count, begun = self.venvs[way], 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            venv.step(np.zeros(venv.num_envs, int))
            count += venv.num_envs
        return count / (time.perf_counter() - begun)


def untrained(preset: str, folder: Path) -> Path:
    """Save an untrained encoder of a preset."""
    model = make_encoder(preset)
    clips = np.random.default_rng(0).integers(0, 256, (64, 1, *model.frame_shape), np.uint8)
    prepare(model, clips if model.initial_state(1) else clips[:, 0], folder, store=StoreReference("none", "none", 5.0, "squash"))
    return folder


def sample(encoder: Any, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return frames, and actions where an encoder is told such."""
    frames = np.random.default_rng(0).integers(0, 256, (rows, *encoder.frame_shape), np.uint8)
    return frames, np.zeros((rows, encoder.action_size), np.float32) if encoder.action_size else None


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve a folder in a process of its own; yield its address and the process's number."""
    words = [sys.executable, str(ROOT / "serve_encoder.py"), str(folder), "--port", "0", *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        try:
            address = next((found[0] for line in process.stderr if (found := re.search(r"http://[\w.:]+/\w+", line))), None)
            assert address is not None, "the service did not start"
            # what else it says must not fill the pipe
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield address, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def counts(server: Server) -> tuple[int, int]:
    """Return how many frames a service has encoded so far, and in how many calls; nothing where a replica tells of itself alone."""
    if server.replicas > 1:
        return 0, 0
    from http.client import HTTPConnection

    from foundation.places import Address

    place = Address(server.address)
    connection = HTTPConnection(place.host, place.port, timeout=30)
    connection.request("GET", f"/v2/models/{place.name}/stats")
    stats = json.loads(connection.getresponse().read())["model_stats"][0]
    connection.close()
    return stats["inference_count"], stats["execution_count"]


def cpu_seconds(pid: int) -> float:
    """Return how much CPU time a process and all that it has started have had."""
    # in nanoseconds; /proc/PID/stat counts hundredths of a second
    return sum(_nanoseconds(task) for one in family(pid) for task in Path(f"/proc/{one}/task").glob("*/schedstat")) / 1e9


def _nanoseconds(task: Path) -> int:
    try:
        return int(task.read_text().split()[0])
    # a thread that has ended
    except OSError:
        return 0


def family(pid: int) -> set[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    members = {pid}
    while further := {child for child, parent in parents.items() if parent in members} - members:
        members |= further
    return members


if __name__ == "__main__":
    run(main)
