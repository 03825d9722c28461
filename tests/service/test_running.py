"""Running the service: tokens, TLS, new weights, metrics, and an end that loses no request."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import UserError
from service.command import check
from service.options import Serve
from service.origins import is_loopback
from service.tokens import Tokens, read_tokens
from tests.fixtures.service import Client, certificate_files, random_frames, save_small, with_limits
from wrappers import FrozenEncoder

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-many-characters"


def test_a_token_is_needed_for_all_but_health_and_the_page(start_service, small_encoders):
    running = start_service(small_encoders["plain"], tokens=Tokens([TOKEN, "another-one-of-them"]))
    stranger, liar, friend = Client(running.port), Client(running.port, TOKEN + "x"), Client(running.port, "another-one-of-them")
    for path in ("/v2", "/v2/models/plain", "/v2/models/plain/ready", "/v2/models/plain/stats", "/metrics", "/v2/nothing"):
        for client in (stranger, liar):
            status, headers, answer = client.call("GET", path)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "token" in answer["error"]
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert stranger.call("GET", path)[0] == 200
    assert stranger.try_infer("plain", frames=random_frames(1))[0] == 401
    assert friend.infer("plain", frames=random_frames(1))["latents"].shape == (1, 16)
    assert friend.call("GET", "/metrics")[0] == 200


def test_a_file_of_tokens_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "folder" / "token"
    tokens = read_tokens(path)
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text().strip()
    assert len(token) >= 40
    assert tokens.owner(f"Bearer {token}") == read_tokens(path).owner(f"bearer {token}")
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        read_tokens(path)
    for content, words in (("short", "fewer than 16"), ("", "holds no token"), ("é" * 20, "ASCII")):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(UserError, match=words):
            read_tokens(path)


def test_who_listens_beyond_this_machine_needs_a_token(tmp_path):
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(UserError, match="--token-file"):
            check(Serve(runs=(tmp_path,), host=host))
        check(Serve(runs=(tmp_path,), host=host, token_file=tmp_path / "token"))
    with pytest.raises(UserError, match="both --certificate and --key"):
        check(Serve(runs=(tmp_path,), certificate=tmp_path / "none"))
    with pytest.raises(UserError, match="no such file"):
        check(Serve(runs=(tmp_path,), certificate=tmp_path / "none", key=tmp_path / "none"))
    with pytest.raises(UserError, match="name the folders"):
        check(Serve(runs=()))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl, for a certificate")
def test_tls_by_certificate_files(start_service, small_encoders, tmp_path):
    certificate, key = certificate_files(tmp_path)
    running = start_service(small_encoders["plain"], certificate=certificate, key=key, grpc_port=0)
    context = ssl.create_default_context(cafile=str(certificate))
    with socket.create_connection(("127.0.0.1", running.port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as made_:
        made_.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert made_.recv(1000).startswith(b"HTTP/1.1 200")
    import grpc

    from service.grpc_messages import SERVICE

    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{running.grpc_port}", credentials) as channel:
        assert channel.unary_unary(f"/{SERVICE}/ServerLive", _registered_method=True)(b"", timeout=20) == b"\x08\x01"


def test_an_encoder_that_was_trained_on_is_served_and_a_damaged_one_is_not(start_service, tmp_path):
    folder = save_small("debug", tmp_path / "plain")
    running = start_service(folder, watch_seconds=0.05)
    client, frames = Client(running.port), random_frames(8)
    first = client.infer("plain", frames=frames)["latents"]
    (folder / "encoder.safetensors").write_bytes(b"damaged" * 100)
    wait_for(lambda: running.service.models.served["plain"].statistics.failed_reloads)
    np.testing.assert_array_equal(client.infer("plain", frames=frames)["latents"], first)
    save_small("debug", folder, seed=5)
    expected, _ = FrozenEncoder(folder).encode(frames)
    wait_for(lambda: running.service.models.served["plain"].statistics.reloads)
    np.testing.assert_array_equal(client.infer("plain", frames=frames)["latents"], expected)
    shutil.rmtree(folder)
    time.sleep(0.2)
    np.testing.assert_array_equal(client.infer("plain", frames=frames)["latents"], expected)


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_encoders_of_one_name_cannot_be_served_together(start_service, small_encoders, tmp_path):
    from service.models import Models

    (tmp_path / "plain").symlink_to(small_encoders["plain"])
    with pytest.raises(UserError, match="two encoders are called 'plain'"):
        Models([small_encoders["plain"], tmp_path / "plain"], "cpu")
    (tmp_path / "stats").symlink_to(small_encoders["plain"])
    with pytest.raises(UserError, match="a route of the protocol"):
        Models([tmp_path / "stats"], "cpu")
    (tmp_path / "newest").symlink_to(small_encoders["plain"])
    assert list(Models([tmp_path / "newest"], "cpu").served) == ["newest"]


def test_what_was_answered_is_counted(start_service, small_encoders):
    running = start_service(small_encoders["plain"], small_encoders["memory"])
    client = Client(running.port)
    for rows in (1, 8, 9):
        client.infer("plain", frames=random_frames(rows))
    client.try_infer("plain", ["none"], frames=random_frames(1))
    client.infer("memory", None, {"sequence_id": 1, "sequence_start": True}, frames=random_frames(3))
    told = client.get("/v2/models/plain/stats")["model_stats"][0]
    assert (told["inference_count"], told["execution_count"]) == (18, 4)
    assert {one["batch_size"]: one["compute_infer"]["count"] for one in told["batch_stats"]} == {1: 2, 8: 2}
    assert (told["inference_stats"]["success"]["count"], told["inference_stats"]["fail"]["count"]) == (3, 1)
    assert [one["name"] for one in client.get("/v2/models/stats")["model_stats"]] == ["plain", "memory"]
    _, headers, text = client.call("GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = text.decode().splitlines()
    assert 'nv_inference_count{model="plain",version="1"} 18' in lines
    assert 'nv_inference_request_success{model="plain",version="1"} 3' in lines
    assert 'nv_inference_request_failure{model="plain",version="1",reason="OTHER"} 1.0' in lines
    assert 'minerl_perception_sequences{model="memory",version="1"} 1.0' in lines
    assert f"minerl_perception_sequence_bytes {3 * 1793}" in lines
    sample = re.compile(r"(# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)+\})? [\d.]+)")
    assert [line for line in lines if not sample.fullmatch(line)] == []


def test_what_is_refused_before_a_model_sees_it_is_counted(start_service, small_encoders):
    limits = with_limits(body_bytes=2**20, body_seconds=0.3, header_seconds=0.3)
    grpc = pytest.importorskip("grpc")
    running = start_service(small_encoders["plain"], tokens=Tokens([TOKEN]), limits=limits, grpc_port=0)
    client, stranger = Client(running.port, TOKEN), Client(running.port)
    assert stranger.try_infer("plain", frames=random_frames(1))[0] == 401
    assert client.call("GET", "/nowhere")[0] == client.call("POST", "/v2/models/nobody/infer", b"{}")[0] == 404
    assert client.call("POST", "/v2/models/plain/infer", b" " * (2**20 + 1))[0] == 413
    # what a model refuses is among its own failures
    assert client.try_infer("plain", ["none"], frames=random_frames(1))[0] == 400
    for content, status in ((b"POST /v2/models/plain/infer HTTP/1.1\r\nAuth", b"408"), (b"\x16\x03\x01 \r\n\r\n", b"400")):
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as made:
            made.sendall(content)
            assert made.recv(1000).split()[1] == status
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", _registered_method=True)(b"", timeout=20)
    lines = client.call("GET", "/metrics")[2].decode().splitlines()
    name = "minerl_perception_refused_requests"
    found = {tuple(re.findall(r'"([^"]*)"', line)): float(line.split()[-1]) for line in lines if line.startswith(name)}
    assert found == {("http", "400"): 1, ("http", "401"): 1, ("http", "404"): 2, ("http", "408"): 1, ("http", "413"): 1} | {
        ("grpc", "UNAUTHENTICATED"): 1
    }
    assert 'nv_inference_request_failure{model="plain",version="1",reason="OTHER"} 1.0' in lines


def test_answers_come_in_their_order_also_those_without_a_body(service):
    get = "{} /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as made:
        made.sendall((get.format("HEAD") + get.format("GET") + get.format("HEAD")).encode())
        made.sendall(last.format("GET").encode())
        received = b"".join(iter(lambda: made.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]] == [b"", b'{"live": true}'] * 2
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as made:
        # a body that is sent only when the service says that it would read it
        made.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert made.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        made.sendall(b"{}")
        assert made.recv(1000).startswith(b"HTTP/1.1 400")


def test_answers_are_compressed_for_who_asks(client):
    import gzip
    import zlib

    headers = {"Accept-Encoding": "gzip;q=1.0, identity", "Content-Type": "application/json"}
    shaped = {"name": "frames", "datatype": "UINT8", "shape": [8, 64, 64, 3], "data": [7] * 8 * 12288}
    body = json.dumps({"inputs": [shaped], "id": "mine"}).encode()
    status, got, content = client.call("POST", "/v2/models/plain/infer", body)
    assert (status, got["Content-Encoding"]) == (200, None)
    client.connection.request("POST", "/v2/models/plain/infer", body, headers)
    response = client.connection.getresponse()
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(response.read())) == content
    client.connection.request("POST", "/v2/models/plain/infer", body, {**headers, "Accept-Encoding": "deflate"})
    response = client.connection.getresponse()
    assert json.loads(zlib.decompress(response.read())) == content


def test_more_than_waits_may_is_refused_with_when_to_come_again(start_service, small_encoders):
    running = start_service(small_encoders["critic"], limits=with_limits(rows=16))
    statuses = []

    def ask(seed):
        status, headers, _ = Client(running.port).try_infer("critic", frames=random_frames(8, seed=seed))
        statuses.append((status, headers["Retry-After"]))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {(200, None), (503, "1")}
    assert Client(running.port).try_infer("critic", frames=random_frames(1))[0] == 200


def test_who_waits_too_long_is_told_so(start_service, small_encoders):
    running = start_service(small_encoders["critic"])
    others = [Client(running.port) for _ in range(4)]
    threads = [threading.Thread(target=one.infer, args=("critic",), kwargs={"frames": random_frames(64)}) for one in others]
    for thread in threads:
        thread.start()
    wait_for(lambda: running.service.encoder.waiting_rows > 8)
    status, _, answer = Client(running.port).try_infer("critic", None, {"timeout": 1000}, frames=random_frames(8))
    assert (status, answer["error"]) == (504, "no answer within 0.001 s")
    for thread in threads:
        thread.join()


@pytest.fixture
def command(small_encoders, tmp_path):
    """Return a function that starts the real command and waits until it listens."""
    started = []

    def start(*options):
        words = [sys.executable, "serve_encoder.py", str(small_encoders["plain"]), str(small_encoders["memory"]), "--port", "0", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        port = int(re.search(r":(\d+)/plain", process.stderr.readline())[1])
        process.stderr.readline()
        return process, port

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_sigterm_under_load_loses_no_accepted_request(command):
    process, port = command("--access-log", "--drain-seconds", "0.5")
    sent, answered, refused, ready = [0] * 6, [0] * 6, [], []

    def work(index):
        client = Client(port)
        while True:
            sent[index] += 1
            try:
                client.infer("plain", frames=random_frames(4))
            except (ConnectionRefusedError, ConnectionResetError) as error:
                # nobody listens any more: this one was never accepted, and the service's own lines say so below
                sent[index] -= 1
                return refused.append(error)
            answered[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    wait_for(lambda: min(answered) >= 3)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: ready.append(Client(port).call("GET", "/v2/health/ready")[0]) or 503 in ready)
    for thread in threads:
        thread.join(60)
    assert process.wait(60) == 0
    assert len(refused) == 6
    assert sent == answered
    said = process.stderr.read().splitlines()
    lines = [line for line in said if "POST /v2/models/plain/infer 200" in line]
    assert len(lines) == sum(answered)
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
def test_bombs_do_not_fill_the_memory(command):
    limit = 16 * 2**20
    process, port = command("--limits.body-bytes", str(limit))
    import gzip

    client = Client(port)
    client.infer("plain", frames=random_frames(8))
    before = peak(process.pid)
    bombs = [gzip.compress(b"\0" * (3 * limit)), gzip.compress(b"[" * (3 * limit)), gzip.compress(b"[]," * limit)]
    for bomb in bombs:
        status, _, _ = client.call("POST", "/v2/models/plain/infer", bomb, {"Content-Encoding": "gzip"})
        assert status == 413
    for body in (b"[" + b"[]," * (limit // 32 // 3 - 1) + b"[]]", b"[" * (limit // 32)):
        assert client.call("POST", "/v2/models/plain/infer", body)[0] == 400
    assert peak(process.pid) - before < 3 * limit


def peak(process):
    """Return the most bytes of memory that a process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
