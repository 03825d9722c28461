"""The command on Ray Serve: nothing listens beyond loopback, a killed replica stops no client, and its end loses no request."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from foundation.tokens import TOKEN_FILE
from tests.fixtures.listening import family, listeners, reachable
from tests.fixtures.service import Client, certificate_files, random_frames, save_small
from wrappers import FrozenEncoder, RemoteEncoder

pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install -e '.[cluster]'")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Command:
    """One that serves two encoders from two replicas, with TLS where there is the command openssl."""

    process: subprocess.Popen
    port: int
    token: str
    certificate: Path | None
    plain: Path
    memory: Path

    def client(self, token: str | None = None) -> Client:
        return Client(self.port, token or self.token, self.certificate)

    def address(self, name: str) -> str:
        return f"http{'' if self.certificate is None else 's'}://127.0.0.1:{self.port}/{name}"

    def replicas(self) -> set[int]:
        return {member for member in family(self.process.pid) if _name(member).startswith("ray::ServeRepl")}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Start the real command once for all tests; the last of them ends it."""
    folder = tmp_path_factory.mktemp("served")
    plain, memory = save_small("debug", folder / "plain"), save_small("cwvae_debug", folder / "memory")
    (folder / "two.yaml").write_text("num_replicas: 2\nhealth_check_period_s: 1\n")
    certificate, key = certificate_files(folder) if shutil.which("openssl") else (None, None)
    words = ["serve_encoder.py", str(plain), str(memory), "--cluster", str(folder / "two.yaml"), "--port", "0", "--watch-seconds", "0.2"]
    words += ["--token-file", str(folder / "token"), *(["--certificate", str(certificate), "--key", str(key)] if certificate else [])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN_FILE, str(folder / "token"))
        if certificate is not None:
            patch.setenv("SSL_CERT_FILE", str(certificate))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            # on a busy machine it says before that it waits
            lines = iter(process.stderr.readline, "")
            found = next((one for line in lines if (one := re.search(r":(\d+)/plain", line))), None)
            assert found is not None, "the command has ended"
            yield Command(process, int(found[1]), (folder / "token").read_text().strip(), certificate, plain, memory)
        finally:
            members = family(process.pid)
            process.kill()
            process.wait()
            for member in members:
                if _name(member).startswith("ray::"):
                    os.kill(member, signal.SIGKILL)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.slow
def test_all_of_it_listens_on_loopback_only(command: Command) -> None:
    found = listeners(command.process.pid)
    assert {"ray::ProxyActor", "ray::ServeRepli"} <= {name for name, _, _ in found}
    assert reachable(found) == set()
    assert len(command.replicas()) == 2


@pytest.mark.slow
def test_the_application_is_the_embedded_one(command: Command) -> None:
    client, frames = command.client(), random_frames(8)
    assert command.client("another-token-of-many-letters").call("GET", "/v2")[0] == 401
    assert client.get("/v2/health/ready") == {"ready": True}
    expected, _ = FrozenEncoder(command.plain).encode(frames)
    for _ in range(4):
        np.testing.assert_array_equal(client.infer("plain", frames=frames)["latents"], expected)
    for parameters, path, headers, code in (
        ({"sequence_id": 1, "sequence_start": True}, "memory", {}, 400),
        ({}, "none", {}, 404),
    ):
        status, _, answer = client.try_infer(path, None, parameters, frames=frames)
        assert status == code, headers
        assert answer["error"]
    many = {"name": "frames", "datatype": "UINT8", "shape": [4096, 1, 1, 3], "data": [0] * 4096 * 3}
    body = json.dumps({"inputs": [many], "outputs": [{"name": "reconstruction"}]}).encode()
    status, _, answer = client.call("POST", "/v2/models/plain/infer", body)
    assert (status, "send at most 1092 rows at a time" in answer["error"]) == (413, True)
    with socket.create_connection(("127.0.0.1", command.port)) as raw:
        head = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {command.token}\r\n"
        sent = head.encode() + b"Content-Length: 10000000000\r\n\r\n"
        if command.certificate is None:
            raw.sendall(sent)
            assert b" 413 " in raw.recv(1000)
        else:
            with client.connection._context.wrap_socket(raw, server_hostname="127.0.0.1") as secured:  # type: ignore[attr-defined]
                secured.sendall(sent)
                assert b" 413 " in secured.recv(1000)


@pytest.mark.slow
def test_a_killed_replica_is_replaced_and_its_clients_go_on_with_the_same_latents(command: Command) -> None:
    episodes = [random_frames(4, seed=seed) for seed in range(300)]
    frozen, remote = FrozenEncoder(command.memory), RemoteEncoder(command.address("memory"))
    state, before = remote.initial_state(4), command.replicas()
    local = frozen.initial_state(4)
    for step, frames in enumerate(episodes):
        latents, state = remote.encode(frames, state)
        expected, local = frozen.encode(frames, local)
        np.testing.assert_array_equal(latents, expected)
        if step == 20:
            os.kill(min(before), signal.SIGKILL)
        if step > 20 and len(command.replicas()) == 2 and step > 100:
            break
    wait_for(lambda: len(command.replicas()) == 2 and min(before) not in command.replicas())


@pytest.mark.slow
def test_new_weights_reach_every_replica(command: Command) -> None:
    client, frames = command.client(), random_frames(8)
    save_small("debug", command.plain, seed=5)
    expected, _ = FrozenEncoder(command.plain).encode(frames)
    in_a_row = [0]

    def new() -> bool:
        equal = np.array_equal(client.infer("plain", frames=frames)["latents"], expected)
        in_a_row[0] = in_a_row[0] + 1 if equal else 0
        # replicas take turns by chance: both old ones would not be left out that often
        return in_a_row[0] >= 24

    wait_for(new)


@pytest.mark.slow
def test_sigterm_under_load_loses_no_accepted_request_and_leaves_no_process(command: Command) -> None:
    sent, answered, refused = [0] * 4, [0] * 4, []

    def work(index: int) -> None:
        client = command.client()
        while True:
            sent[index] += 1
            try:
                status, headers, content = client.try_infer("plain", frames=random_frames(4))
            except OSError as error:
                # nobody listens any more: this one was never accepted
                refused.append(type(error))
                return
            if status != 200:
                refused.append((status, headers["Retry-After"], content["error"]))
                return
            answered[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: min(answered) >= 3)
    members, ready = family(command.process.pid), command.client()
    command.process.send_signal(signal.SIGTERM)
    wait_for(lambda: ready.call("GET", "/v2/health/ready")[0] == 503)
    for thread in threads:
        thread.join(60)
    assert command.process.wait(60) == 0
    # each was told so in words; a connection that breaks off would be a request that was lost
    assert refused == [(503, "1", "the service is ending")] * 4
    assert [one - 1 for one in sent] == answered
    wait_for(lambda: not [member for member in members if _name(member)])
    assert command.process.stderr is not None
    assert "Traceback" not in command.process.stderr.read()
