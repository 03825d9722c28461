"""A cluster: what it lacks is said in one line; what dies on it is started again; nothing that runs on it is lost or done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.cluster import resources as cluster
from agents.cluster.board import Progress
from agents.cluster.config import RayConfig
from agents.cluster.resources import Needs, check_needs, fitting, ray_cluster, shared_gpus
from agents.cluster.worker import Job, Outcome
from agents.cluster.workers import run_jobs
from agents.learning.on_policy import PPOSettings
from agents.remote.config import RemoteConfig
from agents.run.config import AgentRun, EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.needs import run_needs
from agents.run.training import train_agent
from foundation.errors import UserError
from foundation.files import exclusive_lock
from foundation.shared_folder import find_token, shared_token

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch):
    """Return a function that stands in for a cluster's nodes."""

    def make(*resources: dict[str, float]) -> None:
        monkeypatch.setattr(cluster, "_nodes", lambda: list(resources))

    return make


def test_what_no_node_can_give_is_refused_with_what_there_is(nodes) -> None:
    nodes({"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0})
    check_needs(Needs(8.0))
    with pytest.raises(UserError, match=r"asks for 1 CPU and 2 GPUs on one node; Ray has 2 nodes with 4 CPUs and 1 GPU, 8 CPUs: lower"):
        check_needs(Needs(gpus=2.0))
    with pytest.raises(UserError, match="asks for 9 CPUs on one node"):
        check_needs(Needs(9.0))
    with pytest.raises(UserError, match="12 CPUs for environment actors"):
        check_needs(Needs(actors=12.0))
    nodes({"CPU": 4.0})
    with pytest.raises(UserError, match=r"leave out --ray\.gpus, use --device cpu or auto"):
        check_needs(shared_gpus(Needs(gpus=None), 3))


def test_a_run_that_this_machine_has_too_few_cores_for_is_refused_before_ray_starts(monkeypatch) -> None:
    monkeypatch.setattr(cluster, "cores", lambda: 2)
    with (
        pytest.raises(UserError, match=r"asks for 64 CPUs; this machine has 2 cores: lower --ray\.cpus"),
        ray_cluster(RayConfig(cpus=64), 64),
    ):
        pass


@pytest.mark.parametrize(
    ("needs", "runs"),
    [
        (Needs(), 12),
        (Needs(3), 3),
        (Needs(0.5), 24),
        (Needs(gpus=0.5), 6),
        (Needs(gpus=0.3), 9),
        (Needs(gpus=2.0), 1),
        (Needs(actors=1), 6),
    ],
)
def test_as_many_runs_at_once_as_the_nodes_have_room_for(nodes, needs, runs) -> None:
    nodes({"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 0.0})
    assert fitting(needs) == runs


def test_runs_share_gpus_evenly_as_far_as_cpus_let_them(nodes) -> None:
    nodes({"CPU": 8.0, "GPU": 2.0})
    assert shared_gpus(Needs(gpus=None), 3).gpus == 0.5
    assert shared_gpus(Needs(4.0, None), 30).gpus == 1.0
    assert shared_gpus(Needs(gpus=0.25), 30).gpus == 0.25


def test_a_node_without_the_commands_folder_is_told_apart(tmp_path) -> None:
    with shared_token(tmp_path / "run") as token:
        find_token(token)
        with pytest.raises(UserError, match="cannot see this folder, which the command made"):
            find_token(tmp_path / "other" / token.name)
    assert not token.exists()


def test_what_killed_commands_left_in_a_folder_is_removed_and_what_living_ones_hold_stays(tmp_path) -> None:
    (tmp_path / ".ray-0123").touch()
    with shared_token(tmp_path) as first, shared_token(tmp_path) as second:
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run: cannot be written \(Not a directory\)"), shared_token(tmp_path / "file" / "run"):
        pass


@pytest.fixture(scope="module")
def three_nodes():
    """A cluster: a head without CPUs for runs, two nodes with two each."""
    import ray
    from ray.cluster_utils import Cluster

    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    small = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    for _ in range(2):
        made.add_node(num_cpus=2, **small)
    yield made
    ray.shutdown()
    made.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def run(tmp_path) -> AgentRun:
    return AgentRun(
        environment=EnvironmentConfig("VoxelTreechop-v0", {"episode_ticks": 80}),
        evaluation=EvaluationConfig(every=1000, episodes=1, final_episodes=2),
        algorithm=PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,)),
        steps=2400,
        checkpoint_every=64,
        control="pixels",
        device="cpu",
        run=tmp_path / "run",
    )


class Kills:
    """Watches progress, and takes away first a worker and an environment actor, then a node with a run on it."""

    def __init__(self, nodes: Any) -> None:
        self.nodes, self.done = nodes, []

    def __call__(self, progress: Progress) -> None:
        if not self.done and {key for key, steps in progress.steps.items() if steps >= 200} == {"alone", "remote"}:
            learner = int(progress.places["alone"].split("process ")[1].split(",")[0])
            (host,) = self._alive("EnvironmentHost")[:1]
            for process in (learner, host["Pid"]):
                os.kill(process, signal.SIGKILL)
            self.done += ["worker", "actor"]
        if len(self.done) == 2 and progress.restarts.get("alone") and "alone" in progress.places and progress.steps["remote"] >= 600:
            learner = int(progress.places["alone"].split("process ")[1].split(",")[0])
            (worker,) = [one for one in self._alive("Worker") if one["Pid"] == learner]
            (node,) = [node for node in self.nodes.worker_nodes if node.node_id == worker["Address"]["NodeID"]]
            self.nodes.remove_node(node, allow_graceful=False)
            self.done.append("node")

    def _alive(self, name: str) -> list[dict[str, Any]]:
        from ray._private.state import actors

        return [one for one in actors().values() if one["ActorClassName"] == name and one["State"] == "ALIVE"]


@pytest.mark.extended
def test_runs_whose_worker_node_or_environments_die_go_on_and_lose_no_step(three_nodes, run) -> None:
    def code(path: Path, report: Any) -> tuple[str, Path]:
        import agents.run.training

        return agents.run.training.__file__, path

    jobs = [
        Job("alone", train_agent, replace(run, run=run.run / "alone")),
        Job("remote", train_agent, replace(run, run=run.run / "remote", remote=RemoteConfig(actors=1))),
        Job("code", code, Path("relative")),
    ]
    outcomes: dict[str, Outcome] = {}
    kills, config = Kills(three_nodes), RayConfig(three_nodes.address)
    with ray_cluster(config, 0):
        needs = run_needs(jobs[1].argument)
        assert run_jobs(jobs, None, lambda one: outcomes.update({one.key: one}), kills, needs, 4, shared=run.run) is None
    assert kills.done == ["worker", "actor", "node"]
    assert {one.status for one in outcomes.values()} == {"finished"}
    assert outcomes["alone"].restarts >= 2
    assert 3 <= outcomes["alone"].value["attempts"] <= outcomes["alone"].restarts + 1
    assert outcomes["remote"].value["deaths"] + outcomes["remote"].value["failed_resets"] >= 1
    file, path = outcomes["code"].value
    assert not Path(file).is_relative_to(ROOT)
    assert path == Path("relative").absolute()
    for job in jobs[:2]:
        steps = [json.loads(line)["step"] for line in (job.argument.run / "metrics.jsonl").read_text().splitlines() if "seconds" in line]
        assert steps == list(range(32, 2401, 32))
    # a killed run comes to what it comes to alone, in one piece
    again = train_agent(replace(run, run=run.run / "again"), lambda steps, note: False)
    curves = [[(point["step"], point["returns"]) for point in one["curve"]] for one in (again, outcomes["alone"].value)]
    assert curves[0] == curves[1]


@pytest.mark.extended
def test_workers_of_a_killed_command_end_by_themselves(three_nodes, run) -> None:
    command = [sys.executable, "train_agent.py", "debug", "--control", "pixels", "--run", str(run.run), "--device", "cpu"]
    lengths = ["--steps", "100000", "--checkpoint-every", "128", "--evaluation.every", "50000"]
    process = subprocess.Popen([*command, *lengths, "--ray.address", three_nodes.address], cwd=ROOT)
    deadline = time.monotonic() + 400
    while process.poll() is None and not (run.run / "resume.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    with exclusive_lock(run.run, "training", wait_seconds=30):
        starts = [json.loads(line)["event"] for line in (run.run / "attempts.jsonl").read_text().splitlines()]
    assert starts[0] == "start"
    assert not (run.run / "result.json").exists()
