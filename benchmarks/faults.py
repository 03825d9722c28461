"""Kill parts of a cluster under a comparison, and hold its results to an undisturbed one's: python benchmarks/faults.py

A comparison of 12 runs (an encoder and pixels, six seeds), environments in Ray actors, on three nodes of this machine, started as a
user would start it. Killed with SIGKILL: 5 environment actors, 2 workers, a node, and the command, which is then given again. The
undisturbed comparison runs on a local Ray, its environments in the workers themselves. Prints a table; ends with status 1 where a
run is missing, a step is lost or counted twice, a restart is not shown, or a run that nothing touched came to something else.

Two finished comparisons can be held to each other alone: python benchmarks/faults.py --verdict UNDISTURBED DISTURBED
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# this folder comes first otherwise, and its ray.py is not Ray
sys.path[0] = str(ROOT)

from agents.cluster.config import RayConfig  # noqa: E402
from agents.cluster.resources import ray_cluster  # noqa: E402

_ACTORS, _WORKERS = 5, 2
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}


@dataclass
class Run:
    """A run's folder, while it is under way and afterwards."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of one of its files."""
        path = self.folder / name
        text = path.read_text() if path.is_file() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def steps(self) -> list[int]:
        """Return the step of every rollout that was logged."""
        return [line["step"] for line in self.lines("metrics.jsonl") if "steps_per_second" in line]

    def result(self) -> dict[str, Any] | None:
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def worker(self) -> int | None:
        """Return the process of the attempt that has not ended."""
        last = (self.lines("attempts.jsonl") or [{"event": "none"}])[-1]
        return last["process"] if last["event"] == "start" else None

    def starts(self) -> int:
        return sum(line["event"] == "start" for line in self.lines("attempts.jsonl"))

    def saved(self) -> float:
        """Return when its last checkpoint was written."""
        path = self.folder / "resume.pt"
        return path.stat().st_mtime if path.is_file() else 0.0

    def weights(self) -> str:
        return json.loads((self.folder / "agent.json").read_text())["weights_sha256"]


def learners(folder: Path) -> list[Run]:
    """Return the runs of a comparison that train, finished or under way."""
    return [Run(path.parent) for path in sorted(folder.glob("runs/**/attempts.jsonl"))]


@dataclass
class Killer:
    """Takes away one thing after another, each from a run that has saved a checkpoint since something was taken from it."""

    folder: Path
    cluster: Any
    steps: int
    done: list[str] = field(default_factory=list)
    touched: dict[str, float] = field(default_factory=dict)
    """When something was last taken from a run, by its folder."""

    def kill(self, kind: str) -> bool:
        """Kill a part of a run under way; return whether there was one."""
        for run in self._candidates():
            worker = self._actor(run)
            if worker is None:
                continue
            hosts = [one for one in _alive("EnvironmentHost") if one["OwnerAddress"] == worker["Address"]]
            if kind == "actor" and hosts:
                os.kill(hosts[0]["Pid"], signal.SIGKILL)
            elif kind == "worker":
                os.kill(worker["Pid"], signal.SIGKILL)
            elif kind == "node" and (node := self._node(worker)):
                self.cluster.remove_node(node, allow_graceful=False)
            else:
                continue
            self._note(kind, run)
            return True
        return False

    def _note(self, kind: str, run: Run) -> None:
        self.touched[str(run.folder)] = time.time()
        self.done.append(kind)
        print(f"killed: {kind} of {run.name} at {run.steps()[-1]} steps", flush=True)

    def _candidates(self) -> list[Run]:
        """Return runs under way from which something can be taken, those first that have lost something before."""
        running = [run for run in learners(self.folder) if run.worker() and run.result() is None]
        ready = [
            run for run in running if run.saved() > self.touched.get(str(run.folder), 0) and max(run.steps(), default=0) < 0.8 * self.steps
        ]
        return sorted(ready, key=lambda run: -self.touched.get(str(run.folder), 0))

    def _actor(self, run: Run) -> dict[str, Any] | None:
        return next((one for one in _alive("Worker") if one["Pid"] == run.worker()), None)

    def _node(self, worker: dict[str, Any]) -> Any:
        return next((node for node in self.cluster.worker_nodes if node.node_id == worker["Address"]["NodeID"]), None)


def _alive(name: str) -> list[dict[str, Any]]:
    from ray._private.state import actors

    return [one for one in actors().values() if one["ActorClassName"] == name and one["State"] == "ALIVE"]


def disturb(command: list[str], folder: Path, steps: int, log: Path, deadline: float) -> list[str]:
    """Run the comparison on three nodes while parts of it are killed; return what was."""
    from ray.cluster_utils import Cluster

    os.environ.update(_QUIET)
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, **small)
        killer = Killer(folder, cluster, steps)
        given = [*command, "--run", str(folder), "--ray.address", cluster.address]
        with _given(given, log) as process:
            with ray_cluster(RayConfig(cluster.address), 0):
                for kind in ["actor", "worker"] * _WORKERS + ["actor"] * (_ACTORS - _WORKERS) + ["node"]:
                    while not killer.kill(kind):
                        _check_time(process, deadline, kind)
            runs = partial(learners, folder)
            while not any(run.result() for run in runs()) or not any(run.worker() and run.saved() for run in runs()):
                _check_time(process, deadline, "command")
        killer.done.append("command")
        print("killed: command", flush=True)
        status = _finished(given, log, deadline)
        print(f"the same command again: status {status}", flush=True)
        return killer.done
    finally:
        cluster.shutdown()


@contextmanager
def _given(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """Give a command; it is killed at the end of the block, if it has not ended by then."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **_QUIET})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _finished(command: list[str], log: Path, deadline: float) -> int:
    """Give a command and return its status when it has ended."""
    with _given(command, log) as process:
        try:
            return process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            what = " ".join(command[1:3])
            raise SystemExit(f"{what} did not end in time: give it more --minutes, or --folder to keep what it printed") from None


def _check_time(process: subprocess.Popen, deadline: float, kind: str) -> None:
    """Wait a moment; end where the comparison did before all was killed."""
    time.sleep(0.3)
    if process.poll() is not None:
        raise SystemExit(f"the comparison ended (status {process.returncode}) before a {kind} could be killed: give it more --steps")
    if time.monotonic() > deadline:
        raise SystemExit(f"no {kind} could be killed in time: give it more --minutes")


def verdict(undisturbed: Path, disturbed: Path, kills: list[str] | None = None) -> bool:
    """Print a line for each thing that must hold and return whether all do."""
    expected = {run.name: run for run in learners(undisturbed)}
    found = {run.name: run for run in learners(disturbed) if run.name in expected and run.result()}
    lost = [name for name, run in found.items() if run.steps() != expected[name].steps()]
    results = {name: run.result() or {} for name, run in found.items()}
    hidden = [name for name, run in found.items() if results[name].get("attempts") != run.starts()]
    restarted = sum(run.starts() - 1 for run in found.values())
    deaths = sum(result["restarts"] for result in results.values())
    untouched = [name for name, run in found.items() if run.starts() == 1 and not results[name]["restarts"]]
    unequal = [name for name in found if not _equal(expected[name], found[name])]
    wrong = [name for name in unequal if name in untouched]
    equal_touched = [name for name in found if name not in untouched and name not in unequal]
    shown = _shown(disturbed)
    least = 0 if kills is None else kills.count("worker") + 1
    lines = [
        ("runs complete", f"{len(found)} of {len(expected)}", len(found) == len(expected) > 0),
        ("runs with a step lost or counted twice", ", ".join(lost) or "none", not lost),
        ("starts that a result does not show", ", ".join(hidden) or "none", not hidden),
        ("training started again, as results show", f"{restarted} times", restarted >= least),
        ("environments replaced, as results show", f"{deaths} times", kills is None or deaths >= kills.count("actor")),
        ("both in the comparison's table", f"{shown[0]} and {shown[1]} times", shown == (restarted, deaths)),
        ("runs that nothing touched", f"{len(untouched)}", bool(untouched)),
        ("of these, other returns, curve or weights", ", ".join(wrong) or "none", not wrong),
        ("runs that a kill touched and that are equal too", f"{len(equal_touched)} of {len(found) - len(untouched)}", True),
    ]
    print("\n| what | found | |\n| --- | --- | --- |")
    for what, value, holds in lines:
        print(f"| {what} | {value} | {'holds' if holds else '**does not hold**'} |")
    return all(holds for _, _, holds in lines)


def _shown(folder: Path) -> tuple[int, int]:
    """Return how often a comparison's own table says that training was started again, and environments replaced."""
    path = folder / "comparison.csv"
    rows = [row for row in csv.DictReader(path.open()) if row["kind"] != "player"] if path.is_file() else []
    return sum(int(row["attempts"]) - 1 for row in rows), sum(int(row["restarts"]) for row in rows)


def _equal(one: Run, other: Run) -> bool:
    results = one.result() or {}, other.result() or {}
    same = [results[0].get(key) == results[1].get(key) for key in ("final_returns", "curve", "steps")]
    return all(same) and one.weights() == other.weights()


def prepare(folder: Path) -> Path:
    """Make a small encoder of the voxel world with the product's commands and return its folder."""
    store, encoder = folder / "store", folder / "encoder"
    if (encoder / "encoder.json").is_file():
        return encoder
    frames = ["make_frames.py", "build", "--source", "VoxelTreechop-v0", "--frames", "600", "--store", str(store)]
    for command in (frames, ["train_encoder.py", "debug", "--store", str(store), "--run", str(encoder), "--device", "cpu"]):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, env={**os.environ, **_QUIET}, stdout=subprocess.DEVNULL)
    return encoder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1536, help="agent steps of each run")
    parser.add_argument("--seeds", type=int, default=6, help="runs of each of the two rows")
    parser.add_argument("--minutes", type=float, default=30, help="end where not all is done by then")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder)")
    parser.add_argument(
        "--verdict", type=Path, nargs=2, metavar=("UNDISTURBED", "DISTURBED"), help="hold finished comparisons to each other"
    )
    options = parser.parse_args()
    if options.verdict:
        return 0 if verdict(*options.verdict) else 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        deadline, log = time.monotonic() + 60 * options.minutes, folder / "commands.log"
        rows = ["--encoders", str(prepare(folder)), "--controls", "pixels", "--seeds", str(options.seeds), "--device", "cpu"]
        lengths = ["--steps", str(options.steps), "--checkpoint-every", "128", "--evaluation.every", "512"]
        command = [sys.executable, "compare_encoders.py", "debug", *rows, *lengths]
        status = _finished([*command, "--run", str(folder / "undisturbed")], log, deadline)
        print(f"undisturbed comparison: status {status}", flush=True)
        kills = disturb([*command, "--remote.actors", "1"], folder / "disturbed", options.steps, log, deadline)
        return 0 if verdict(folder / "undisturbed", folder / "disturbed", kills) else 1


if __name__ == "__main__":
    sys.exit(main())
