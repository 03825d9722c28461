"""What `--cluster` and its YAML cannot say is an error of one line, before anything starts."""

from pathlib import Path

import pytest

from foundation.errors import UserError
from service.cluster_options import Cluster, read_cluster
from service.command import check
from service.options import RayOptions, Serve
from service.replica import application, placed
from tests.fixtures.service import Client, random_frames, with_limits

TOKEN = "a-token-of-many-characters"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replicas: 2", "unknown key 'replicas'.*num_replicas"),
        ("num_replicas: two", "'num_replicas' must be of type int, got 'two'"),
        ("num_replicas: 0", "'num_replicas' must be at least 1, got 0"),
        ("num_replicas: 2\nautoscaling_config: {max_replicas: 3}", "two ways to say how many; leave one out"),
        ("autoscaling_config: {min_replicas: 1}", "missing key 'autoscaling_config.max_replicas'"),
        ("autoscaling_config: {max_replicas: 2, min_replicas: 3}", "'min_replicas' must be at most 2, got 3"),
        ("num_cpus: 0", "'num_cpus' must be at least 0.01, got 0"),
        ("num_gpus: 1.5", "'num_gpus' must be a fraction of one or a whole number, got 1.5"),
        ("max_ongoing_requests: 0", "'max_ongoing_requests' must be at least 1"),
        ("proxy_location: Everywhere", "'proxy_location' must be one of EveryNode, HeadOnly, got 'Everywhere'"),
        ("name: a#b", "no '#'"),
        ("- 1", "must hold a mapping"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_what_a_yaml_cannot_say(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: .*{said}") as refused:
        read_cluster(path)
    assert str(refused.value).count(str(path)) == 1


def test_a_yaml_that_says_nothing_means_one_replica(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("{}")
    assert read_cluster(tmp_path / "cluster.yaml") == Cluster()
    assert Cluster().alone
    assert Cluster(num_replicas=1).alone
    (tmp_path / "cluster.yaml").write_text("autoscaling_config: {max_replicas: 4, min_replicas: 0}")
    found = read_cluster(tmp_path / "cluster.yaml")
    # one for now is not one for ever
    assert not found.alone
    assert found.most_replicas == 4
    assert not Cluster(num_replicas=2).alone


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grpc_port": 8001}, "--grpc-port: with --cluster there is HTTP alone"),
        ({"limits": with_limits(connections=3)}, "--limits.connections: .*proxies"),
        ({"limits": with_limits(header_seconds=3.0)}, "--limits.header-seconds: .*proxies"),
        ({"access_log": True}, "--access-log: .*Ray's logs"),
        ({"host": "0.0.0.0"}, "--token-file"),
    ],
)
def test_what_does_not_go_with_replicas(options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        check(Serve(runs=(tmp_path,), cluster=tmp_path, **options))


def test_a_cluster_s_address_needs_to_know_how_many(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--ray\.address goes with --cluster"):
        check(Serve(runs=(tmp_path,), ray=RayOptions("auto")))
    check(Serve(runs=(tmp_path,), ray=RayOptions("auto"), cluster=tmp_path, access_log=True))


def test_a_device_that_ray_is_not_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = Serve(runs=(Path("run"),))
    assert placed(options, Cluster()).device == "cpu"
    assert placed(options, Cluster(num_gpus=0.5)).device == "cuda"
    # a replica has another current folder
    assert placed(options, Cluster()).runs == (tmp_path / "run",)
    with pytest.raises(UserError, match="--device cuda, and a replica has 0 GPUs: say num_gpus: 1"):
        placed(Serve(runs=(tmp_path,), device="cuda"), Cluster())
    with pytest.raises(UserError, match="--device cpu, and a replica has 1 GPUs: leave out num_gpus"):
        placed(Serve(runs=(tmp_path,), device="cpu"), Cluster(num_gpus=1))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "missing key 'args.runs'"),
        ({"runs": []}, "name the folders"),
        ({"runs": ["run"]}, "args.token_file is missing"),
        ({"runs": ["run"], "token_file": "no/such/file"}, "args.token_file: there is no file no/such/file"),
        ({"runs": ["run"], "limits": {"connections": 3}}, "args.limits.connections: .*proxies"),
        ({"runs": ["run"], "limits": {"header_seconds": 3.0}}, "args.limits.header_seconds: .*proxies"),
        ({"runs": ["run"], "port": 80}, "args.port: Serve listens"),
        ({"runs": ["run"], "cluster": {"name": "other"}}, "args.cluster.name: Serve listens"),
        ({"runs": ["run"], "cluster": {"replicas": 2}}, "unknown key 'args.cluster.replicas'"),
        ({"runs": ["run"], "batchin": "fast"}, "unknown key 'args.batchin'.*batching"),
    ],
)
def test_what_serve_deploy_cannot_say(args: dict, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MINERL_PERCEPTION_TOKEN", "MINERL_PERCEPTION_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=said):
        application(args)
    assert list(tmp_path.iterdir()) == []


def test_a_sequence_is_never_kept_where_another_replica_may_be_asked_next(start_service, small_encoders) -> None:
    running = start_service(small_encoders["memory"])
    client, frames = Client(running.port), random_frames(1)
    assert "sequence" in client.get("/v2")["extensions"]
    client.infer("memory", parameters={"sequence_id": 7, "sequence_start": True}, frames=frames)
    running.service.is_shared = lambda: True
    for parameters in ({"sequence_id": 7}, {"sequence_id": 8, "sequence_start": True}):
        status, _, answer = client.try_infer("memory", None, parameters, frames=frames)
        assert status == 400
        assert "several replicas, and none keeps a memory; send input 'state'" in answer["error"]
    assert "sequence" not in client.get("/v2")["extensions"]
    assert set(client.infer("memory", frames=frames)) == {"latents", "state"}
