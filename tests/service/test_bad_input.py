"""Whatever a client sends, it gets a code and a sentence, and a good client goes on."""

import gzip
import json
import socket
import time
import zlib
from contextlib import ExitStack

import numpy as np
import pytest

from service.bodies import decompress
from service.errors import ServiceError
from service.tokens import Tokens
from tests.fixtures.service import Client, binary_request, post, random_frames, raw, with_limits

pytestmark = pytest.mark.usefixtures("good_client_goes_on")

PATIENT = {"header_seconds": 60.0, "body_seconds": 60.0}
IMPATIENT = {"header_seconds": 0.5, "body_seconds": 0.5}
BODY = 2**21
JSON = BODY // 32


@pytest.fixture(scope="module")
def served(start_service, small_encoders):
    """A service that takes little."""
    limits = with_limits(**PATIENT, body_bytes=BODY, rows=64)
    return start_service(*small_encoders.values(), limits=limits, batching="exact")


@pytest.fixture(scope="module")
def impatient(start_service, small_encoders):
    """A service that waits for nobody."""
    return start_service(small_encoders["plain"], limits=with_limits(**IMPATIENT))


def as_json(**changes):
    frames = {"name": "frames", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": [0] * 12288}
    values = {"inputs": [{**frames, **changes.pop("frames", {})}], **changes}
    return json.dumps(values).encode()


def test_json_needs_no_content_type(served):
    status, answer = raw(served.port, post(as_json()))
    assert status == 200
    assert answer["outputs"][0]["shape"] == [1, 16]
    nested = np.zeros((1, 64, 64, 3), int).tolist()
    assert raw(served.port, post(as_json(frames={"data": nested})))[1]["outputs"] == answer["outputs"]


WRONG = {
    "no JSON": (b"frames", "is not JSON"),
    "another kind of JSON": (b"[]", "must be a JSON object"),
    "JSON without an end": (b'{"inputs": [', "is not JSON"),
    "no inputs": (b"{}", "no list of inputs"),
    "depth of fifty thousand": (b"[" * 50_000, "too deeply"),
    "NaN": (as_json(frames={"data": [float("nan")] * 12288}), "NaN"),
    "a number of thousands of digits": (b'{"inputs": [' + b"1" * 5000 + b"]}", "is not JSON"),
    "text that is none": (b'{"inputs": "\xff\xfe"}', "is not JSON"),
    "a huge shape": (as_json(frames={"shape": [2**40, 64, 64, 3]}), "has 13510798882111488 numbers"),
    "a shape beyond 64 bits": (as_json(frames={"shape": [2**70, 1, 1, 1]}), "whole numbers"),
    "a negative shape": (as_json(frames={"shape": [-1, 64, 64, 3]}), "whole numbers of 0 or more"),
    "a fractional shape": (as_json(frames={"shape": [1.5, 64, 64, 3]}), "whole numbers"),
    "a shape of words": (as_json(frames={"shape": "wide"}), "needs a shape"),
    "a shape of many sizes": (as_json(frames={"shape": [1] * 100}), "needs a shape"),
    "no rows": (as_json(frames={"shape": [0, 64, 64, 3], "data": []}), "must be pictures"),
    "no rows of pictures beyond any memory": (as_json(frames={"shape": [0, 2**40, 2**40, 3], "data": []}), "input 'frames' has the shape"),
    "no pixels": (as_json(frames={"shape": [1, 0, 64, 3], "data": []}), "must be pictures"),
    "two channels": (as_json(frames={"shape": [1, 64, 96, 2]}), "must be pictures"),
    "another dtype": (as_json(frames={"datatype": "FP32"}), "must be UINT8, got FP32"),
    "no dtype": (as_json(frames={"datatype": None}), "must be UINT8, got None"),
    "too few numbers": (as_json(frames={"data": [0]}), "has 12288 numbers, got 1"),
    "numbers that are no pixels": (as_json(frames={"data": [256] * 12288}), "0 to 255"),
    "negative pixels": (as_json(frames={"data": [-1] * 12288}), "0 to 255"),
    "fractions of pixels": (as_json(frames={"data": [0.5] * 12288}), "whole numbers"),
    "words for pixels": (as_json(frames={"data": ["a"] * 12288}), "whole numbers"),
    "ragged lists": (as_json(frames={"data": [[0], [0, 0]]}), "no array"),
    "data that is no list": (as_json(frames={"data": 3}), "neither data"),
    "another name": (as_json(frames={"name": "frame"}), "did you mean 'frames'"),
    "a name that is none": (as_json(frames={"name": 3}), "must be a string"),
    "an output that is not there": (as_json(outputs=[{"name": "latent"}]), "did you mean 'latents'"),
    "parameters that are none": (as_json(parameters=[]), "must be a JSON object"),
    "an action for a model without": (
        as_json(inputs=[json.loads(as_json())["inputs"][0], {"name": "action", "datatype": "FP32", "shape": [1, 1], "data": [0]}]),
        "takes no actions",
    ),
    "a sequence of a fraction": (as_json(parameters={"sequence_id": 1.5}), "sequence_id must be"),
    "a sequence below 0": (as_json(parameters={"sequence_id": -1}), "sequence_id must be"),
    "a sequence beyond 64 bits": (as_json(parameters={"sequence_id": 2**64}), "sequence_id must be"),
    "a sequence of a long name": (as_json(parameters={"sequence_id": "a" * 300}), "300 characters"),
    "the start of no sequence": (as_json(parameters={"sequence_start": True}), "need a sequence_id"),
    "a flag that is none": (as_json(parameters={"sequence_id": 1, "sequence_start": "yes"}), "true or false"),
    "a timeout that is none": (as_json(parameters={"timeout": "soon"}), "microseconds"),
    "batches of another kind": (as_json(parameters={"batching": "slow"}), "exact, fast, alone"),
    "binary data without a header": (as_json(frames={"parameters": {"binary_data_size": 12288}}), "Inference-Header-Content-Length"),
}


@pytest.mark.parametrize(("body", "words"), WRONG.values(), ids=WRONG)
def test_a_request_that_is_wrong_is_told_what_is_wrong(served, body, words):
    status, answer = raw(served.port, post(body))
    assert status == 400, answer
    assert words in answer["error"]
    assert set(answer) == {"error"}


def binary(change_length=0, surplus=b"", drop=0, declared=None):
    body, length = binary_request(frames=random_frames(1))
    body = body[: len(body) - drop] + surplus
    if declared is not None:
        body = body.replace(b'"binary_data_size": 12288', b'"binary_data_size": %s' % declared)
        length += len(declared) - 5
    return post(body, f"Inference-Header-Content-Length: {length + change_length}")


def without_bytes(shape):
    told = {"name": "frames", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": 0}}
    body = json.dumps({"inputs": [told]}).encode()
    return post(body, f"Inference-Header-Content-Length: {len(body)}")


BINARY = {
    "truncated": (binary(drop=1), "12287 bytes are left"),
    "surplus": (binary(surplus=b"\0"), "12289 bytes of binary data, and the inputs 12288"),
    "a header beyond the body": (binary(change_length=10**9), "the body has"),
    "a header that is too short": (binary(change_length=-3), "is not JSON"),
    "a negative size": (binary(declared=b"-12288"), "binary_data_size -12288"),
    "a size that is a fraction": (binary(declared=b"12288.5"), "binary_data_size 12288.5"),
    "a size beyond the body": (binary(declared=b"99999999999"), "bytes are left"),
    "a size of less than the shape": (binary(declared=b"12287"), "inputs 12287"),
    "no rows of pictures beyond any memory": (without_bytes([0, 2**40, 2**40, 3]), "input 'frames' has the shape"),
    "no row": (without_bytes([0, 64, 64, 3]), "must be pictures"),
    "a header of words": (post(b"{}", "Inference-Header-Content-Length: long"), "must be a whole number"),
}


@pytest.mark.parametrize(("request_", "words"), BINARY.values(), ids=BINARY)
def test_binary_data_that_do_not_fit_are_refused(served, request_, words):
    status, answer = raw(served.port, request_)
    assert status == 400, answer
    assert words in answer["error"]


def test_other_codes_are_those_of_http(served):
    port = served.port
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for path in ("/v3", "/v2/models/nobody", "/v2/models/plain/versions/2", "/v2/models/plain/config", "/v2/models//infer", "/%00"):
        status, answer = raw(port, get.format(path).encode())
        assert status == 404, (path, answer)
        assert answer["error"]
    assert raw(port, post(as_json(), path="/v2/models/nobody/infer"))[0] == 404
    assert raw(port, post(as_json(), path="/v2/models/plain/versions/2/infer"))[0] == 404
    assert raw(port, post(b"", path="/v2/models/plain"))[0] == 405
    assert raw(port, get.format("/v2/models/plain/infer").encode())[0] == 405
    assert raw(port, post(as_json(), "Content-Encoding: br"))[0] == 415
    assert raw(port, post(as_json(), "Content-Type: image/png"))[0] == 415
    assert raw(port, post(as_json(), "Origin: http://elsewhere.example"))[0] == 403
    assert raw(port, post(b" " * (JSON + 1)))[0] == 413
    status, answer = raw(port, post(as_json(parameters={"timeout": 1})))
    assert status in (504, 200)
    assert raw(port, b"\x16\x03\x01 this is TLS \r\n\r\n")[0] == 400
    assert raw(port, post(b"", length="ten"))[0] == 400
    assert raw(port, b"GET / HTTP/1.1\r\nCookie: " + b"a" * 70_000)[0] == 431


def asked(port, host, origin=None, *fields):
    head = [f"GET /v2 HTTP/1.1\r\nHost: {host}", *([] if origin is None else [f"Origin: {origin}"]), *fields]
    return raw(port, "\r\n".join(head).encode() + b"\r\n\r\n")


def test_a_page_of_another_site_may_not_ask_whatever_its_name_leads_to(served, start_service, small_encoders):
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000"):
        assert asked(served.port, host)[0] == asked(served.port, host, f"http://{host}")[0] == 200
        for origin in ("http://[", "http://elsewhere.example", "null", "http://\xe9"):
            assert asked(served.port, host, origin)[0] == 403
    for host in ("evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[", "[::1", ""):
        for origin in (None, f"http://{host}"):
            status, answer = asked(served.port, host, origin)
            assert (status, set(answer)) == (403, {"error"})
    assert "--token-file" in asked(served.port, "evil.example:8000")[1]["error"]
    # with a token, as behind nginx: a page of another site does not have it
    token = "a-token-of-many-characters"
    guarded, shown = start_service(small_encoders["plain"], tokens=Tokens([token])), f"Authorization: Bearer {token}"
    name = "perception.example.org"
    assert asked(guarded.port, name, None, shown)[0] == asked(guarded.port, name, f"https://{name}", shown)[0] == 200
    assert asked(guarded.port, name, "https://elsewhere.example", shown)[0] == asked(guarded.port, name, "http://[", shown)[0] == 403
    assert asked(guarded.port, name)[0] == 401


def test_bodies_that_are_too_large_are_refused_before_they_are_sent(served):
    status, answer = raw(served.port, post(b"", length=10 * 10**9))
    assert status == 413
    assert "10000000000 bytes" in answer["error"]
    # and where nobody says how large it is
    head = b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert raw(served.port, head + chunk * 34)[0] == 413
    # who sends it all the same can read the answer
    status, _ = raw(served.port, post(b"\0" * (4 * BODY)))
    assert status == 413
    status, answer = raw(served.port, binary_post(frames=np.zeros((65, 8, 8, 3), np.uint8)))
    assert status == 413
    assert "65 rows" in answer["error"]


def binary_post(model="plain", parameters=None, **inputs):
    body, length = binary_request(None, parameters, **inputs)
    return post(body, f"Inference-Header-Content-Length: {length}", path=f"/v2/models/{model}/infer")


def test_compressed_bodies_are_taken_and_bombs_are_not(served):
    for encoding, press in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        assert raw(served.port, post(press(as_json()), f"Content-Encoding: {encoding}"))[0] == 200
        bomb = press(b"\0" * (50 * BODY))
        assert len(bomb) < BODY
        status, answer = raw(served.port, post(bomb, f"Content-Encoding: {encoding}"))
        assert status == 413
        assert "once decompressed" in answer["error"]
        assert raw(served.port, post(press(as_json())[:-9], f"Content-Encoding: {encoding}"))[0] == 400
        assert raw(served.port, post(press(as_json()) + b"more", f"Content-Encoding: {encoding}"))[0] == 400
    assert raw(served.port, post(as_json(), "Content-Encoding: gzip"))[0] == 400


def test_a_stream_that_fits_exactly_is_whole():
    content = bytes(range(256)) * 64
    assert decompress(gzip.compress(content), len(content)) == content
    with pytest.raises(ServiceError, match="more than 16383 bytes"):
        decompress(gzip.compress(content), len(content) - 1)


def test_what_never_comes_is_not_waited_for(impatient):
    status, answer = raw(impatient.port, post(b"{", length=100))
    assert status == 408
    assert "1 of 100 bytes" in answer["error"]
    status, answer = raw(impatient.port, b"POST /v2/models/plain/infer HTTP/1.1\r\nContent-")
    assert status == 408
    assert "header" in answer["error"]
    assert raw(impatient.port, b"") == (None, b"")


def test_what_the_memory_of_a_client_must_be(served, small_encoders):
    client = Client(served.port)
    state = client.infer("memory", frames=random_frames(2))["state"]

    def refused(model="memory", parameters=None, rows=2, **inputs):
        told = {"action": np.zeros((rows, 3), np.float32)} if model == "told" else {}
        status, _, answer = client.try_infer(model, None, parameters, frames=random_frames(rows), **told, **inputs)
        assert status == 400
        return answer["error"]

    other = client.infer("told", frames=random_frames(2), action=np.zeros((2, 3), np.float32))["state"]
    digests = [client.get(f"/v2/models/{name}")["properties"]["weights_sha256"][:16] for name in ("told", "memory")]
    assert all(digest in refused(state=other) for digest in digests)
    assert "not both" in refused(parameters={"sequence_id": 1, "sequence_start": True}, state=state)
    assert "[3, 1793]" in refused(rows=3, state=state)
    assert "[2, 1793]" in refused(state=state[:, :-1])
    assert "format 9" in refused(state=np.concatenate([np.full((2, 1), 9, np.uint8), state[:, 1:]], 1))
    assert "not all zeros" in refused(state=np.concatenate([np.zeros((2, 1), np.uint8), state[:, 1:]], 1))
    assert "finite" in refused(state=np.concatenate([state[:, :9], np.full((2, 1784), 255, np.uint8)], 1))
    assert "has no memory" in refused("plain", state=state)
    # zeros stand for "before the first frame"
    fresh = client.infer("memory", frames=random_frames(2), state=np.zeros_like(state))["state"]
    np.testing.assert_array_equal(fresh, state)


def test_actions_must_be_numbers_and_there(served):
    client = Client(served.port)
    start = {"sequence_id": "told", "sequence_start": True}
    client.infer("told", None, start, frames=random_frames(1))
    status, _, answer = client.try_infer("told", None, {"sequence_id": "told"}, frames=random_frames(1))
    assert (status, "action' is missing" in answer["error"]) == (400, True)
    bad = np.array([[0, np.nan, 0]], np.float32)
    status, _, answer = client.try_infer("told", None, {"sequence_id": "told"}, frames=random_frames(1), action=bad)
    assert (status, "not finite" in answer["error"]) == (400, True)
    client.infer("told", None, {"sequence_id": "told"}, frames=random_frames(1), reset=np.array([True]))


def test_memory_that_a_request_has_taken_is_counted_and_not_what_it_says(start_service, small_encoders):
    running = start_service(small_encoders["plain"], limits=with_limits(reading_bytes=2**16, **PATIENT))
    client, held = Client(running.port), running.service.allowance
    with ExitStack() as stack:
        said, taking = (stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(2))
        said.sendall(post(b"{", length=2**26))
        assert client.try_infer("plain", frames=random_frames(5))[0] == 200
        taking.sendall(post(b" " * 60_000, length=2**26))
        while held.held < 60_000:
            time.sleep(0.01)
        status, headers, _ = client.try_infer("plain", frames=random_frames(5))
        assert (status, headers["Retry-After"]) == (503, "1")
    while held.held:
        time.sleep(0.01)
    # alone, a request may be larger than all may be together
    assert client.try_infer("plain", frames=random_frames(8))[0] == 200
