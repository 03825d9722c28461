"""Answers that are large: refused before anything is encoded where they are too large, and written without keeping others waiting."""

import threading

import numpy as np
import pytest

from foundation.errors import UserError
from service import http_app
from tests.fixtures.service import Client, binary_request, random_frames, save_small, with_limits

pytestmark = pytest.mark.usefixtures("good_client_goes_on")


def test_an_answer_that_would_be_too_large_is_refused_before_anything_is_encoded(start_service, small_encoders, tmp_path):
    slots, most = save_small("efficientmorl_debug", tmp_path / "slots"), 2**20
    bounded = start_service(slots, small_encoders["memory"], limits=with_limits(answer_bytes=most))
    client = Client(bounded.port)

    def answered(model, output, rows, **parameters):
        status, _, answer = client.try_infer(model, [output], parameters, frames=np.zeros((rows, 1, 1, 3), np.uint8))
        return status, "" if status == 200 else answer["error"]

    masks = client.infer("slots", ["mask"], frames=random_frames(2))["mask"]
    assert {one["name"]: one["shape"] for one in client.get("/v2/models/slots")["outputs"]}["mask"] == [-1, *masks.shape[1:]]
    fits, fits_as_json = most // masks[0].nbytes, most // (25 * masks[0].size)
    assert fits > fits_as_json > 0
    assert answered("slots", "mask", fits)[0] == 200
    assert answered("slots", "mask", fits_as_json, binary_data_output=False)[0] == 200
    encoded = bounded.service.models.served["slots"].statistics.shown("slots", "1")["inference_count"]
    status, words = answered("slots", "mask", 4096)
    assert (status, f"send at most {fits} rows at a time" in words, "binary" in words) == (413, True, False)
    status, words = answered("slots", "mask", fits_as_json + 1, binary_data_output=False)
    assert (status, f"send at most {fits_as_json} rows at a time, or ask for binary data" in words) == (413, True)
    assert bounded.service.models.served["slots"].statistics.shown("slots", "1")["inference_count"] == encoded
    # nor has a sequence begun with it
    assert answered("memory", "reconstruction", 100, sequence_id=1, sequence_start=True)[0] == 413
    assert "START" in answered("memory", "latents", 100, sequence_id=1)[1]


def test_a_row_whose_outputs_are_too_large_is_told_so(start_service, small_encoders):
    client = Client(start_service(small_encoders["plain"], limits=with_limits(answer_bytes=10_000)).port)
    status, _, answer = client.try_infer("plain", ["reconstruction"], frames=random_frames(1))
    assert (status, "12288 bytes" in answer["error"], "ask for fewer outputs" in answer["error"]) == (413, True, True)
    assert client.try_infer("plain", frames=random_frames(1))[0] == 200


@pytest.mark.parametrize(("binary", "encoding"), [(False, "identity"), (True, "gzip")], ids=["as JSON", "compressed"])
def test_others_are_answered_while_a_large_answer_is_written(served, binary, encoding, monkeypatch):
    write, begun, answered, in_time = http_app.write_answer, threading.Event(), threading.Event(), []

    def slow(answer, request):
        if "reconstruction" in answer.outputs:
            begun.set()
            in_time.append(answered.wait(10))
        return write(answer, request)

    monkeypatch.setattr(http_app, "write_answer", slow)
    body, length = binary_request(["reconstruction"], {"binary_data_output": binary}, frames=random_frames(2))
    headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": encoding}
    thread = threading.Thread(target=Client(served.port).call, args=("POST", "/v2/models/plain/infer", body, headers))
    thread.start()
    assert begun.wait(30)
    Client(served.port).infer("plain", frames=random_frames(1))
    answered.set()
    thread.join()
    assert in_time == [True]


@pytest.mark.parametrize(("name", "value"), [("answer_bytes", 0), ("rows", -1), ("body_seconds", 0.0), ("idle_seconds", float("nan"))])
def test_limits_that_would_refuse_everything_are_none(name, value):
    with pytest.raises(UserError, match=f"'limits.{name}' must be at least"):
        with_limits(**{name: value})
