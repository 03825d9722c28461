"""Where a cluster is and is not, said in one sentence; what runs on one is tested with the agents that do."""

import json
import socket
import threading
import zipfile
from contextlib import suppress
from typing import Any

import pytest

from foundation import ray_cluster as module
from foundation.errors import UserError
from foundation.ray_cluster import connected, reachable


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nowhere", "must be auto or HOST:PORT"),
        ("head:99999", "must be auto or HOST:PORT"),
        ("ray://head:10001", "ray job submit --address http://head:8265"),
        ("auto", "belongs to no Ray cluster; start one with `ray start --head`"),
    ],
)
def test_an_address_where_no_cluster_is_is_one_sentence(address, said, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_CURRENT", tmp_path / "none")
    with pytest.raises(UserError) as refused:
        reachable(address)
    assert said in str(refused.value)


@pytest.mark.parametrize(("reply", "said"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Ray"), (b"", "timed out")], ids=["other", "silent"])
def test_a_port_where_something_else_listens_is_not_waited_for(reply, said, monkeypatch) -> None:
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            # until the other side gives up
            with server.accept()[0] as connection, suppress(ConnectionError):
                connection.sendall(reply)
                while connection.recv(100):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UserError, match=f"no Ray cluster answers at .*{said}"):
            reachable(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize("said", ["1", "true", "True"])
def test_a_cluster_with_tls_is_not_greeted_in_plain_text(said, monkeypatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", said)
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.2)
    # as one does that waits for the handshake
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert reachable(address) == address


def test_auto_means_the_cluster_that_ray_start_left_here(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_CURRENT", tmp_path / "current")
    (tmp_path / "current").write_text("127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        reachable("auto")


def test_other_versions_are_one_sentence(monkeypatch) -> None:
    def other(**_: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.9")

    monkeypatch.setattr("ray.init", other)
    monkeypatch.setattr(module, "reachable", lambda address: address)
    with pytest.raises(UserError, match=r"Ray: 2\.1 Python: 3\.9\): install the same versions"), connected("head:6379"):
        pass


def test_nodes_are_sent_the_code_and_nothing_else(tmp_path, monkeypatch) -> None:
    from ray._private.runtime_env.packaging import create_package

    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    sent = module._runtime_env()
    create_package(sent["working_dir"], tmp_path / "sent.zip", include_gitignore=True, excludes=sent["excludes"])
    names = zipfile.ZipFile(tmp_path / "sent.zip").namelist()
    wanted = {
        "agents/run/training.py", "comparison/report/report.css", "service/page/page.html", "envs/voxel/env.py",
        "configs/agent/ppo.yaml", "train_agent.py",
    }
    assert wanted <= set(names)
    assert not [name for name in names if name.startswith(("tests", "docs", ".", "benchmarks")) or "__pycache__" in name]
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"working_dir": "gcs://sent.zip"}}))
    assert module._runtime_env() == {}
