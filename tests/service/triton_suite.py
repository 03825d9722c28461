"""What an unmodified `tritonclient` does with the service, over HTTP and gRPC. Runs in an interpreter that has it, and nothing of ours.

python triton_suite.py HTTP_PORT GRPC_PORT HTTP_PORT_WITH_TOKEN GRPC_PORT_WITH_TOKEN TOKEN
"""

import queue
import sys
from importlib.metadata import version

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

FRAMES = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
START = "must specify the START flag on the first request of the sequence"


def tensor(module, name, array, **options):
    datatype = {"uint8": "UINT8", "float32": "FP32", "bool": "BOOL"}[array.dtype.name]
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def latents(client, module, model="plain", frames=FRAMES, **options):
    return client.infer(model, [tensor(module, "frames", frames)], **options).as_numpy("latents")


def refused(call):
    """Return the text and the status of the exception that a call raises."""
    try:
        call()
    except InferenceServerException as error:
        return error.message(), error.status()
    raise AssertionError("nothing was raised")


def health_and_metadata(client, module, text):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plain")
    assert client.is_model_ready("plain", "1")
    server = text(client.get_server_metadata())
    assert server["name"] == "minerl-perception"
    assert "binary_tensor_data" in server["extensions"]
    told = text(client.get_model_metadata("memory"))
    assert told["name"] == "memory"
    assert told["versions"] == ["1"]
    shapes = {one["name"]: [int(size) for size in one["shape"]] for one in told["inputs"]}
    assert shapes["frames"] == [-1, 64, 64, 3]
    assert shapes["state"][0] == -1


def versions_and_statistics(client, module, text):
    expected = latents(client, module)
    assert (latents(client, module, model_version="1") == expected).all()
    message, status = refused(lambda: latents(client, module, model_version="7"))
    assert "no version '7'" in message, (message, status)
    assert status in ("404", "StatusCode.NOT_FOUND"), (message, status)
    told = text(client.get_inference_statistics("plain"))["model_stats"][0]
    assert int(told["inference_count"]) >= 16
    assert int(told["inference_stats"]["success"]["count"]) >= 2
    assert len(text(client.get_inference_statistics())["model_stats"]) >= 2


def other_readings_and_identifiers(client, module, text):
    wanted = [module.InferRequestedOutput("latents"), module.InferRequestedOutput("reconstruction")]
    result = client.infer("plain", [tensor(module, "frames", FRAMES)], outputs=wanted, request_id="seven")
    assert result.as_numpy("reconstruction").shape == FRAMES.shape
    assert result.as_numpy("state") is None
    response = text(result.get_response())
    assert response["id"] == "seven"
    assert response["model_version" if "model_version" in response else "modelVersion"] == "1"


def sequences(client, module, text):
    frames = [np.roll(FRAMES, step, 1)[:2] for step in range(3)]
    for name in (4711, "an episode"):
        kept = {}
        for step in range(3):
            flags = {"sequence_id": name, "sequence_start": step == 0, "sequence_end": step == 2}
            theirs = latents(client, module, "memory", frames[step], **flags)
            inputs = [tensor(module, "frames", frames[step]), *kept.values()]
            mine = client.infer("memory", inputs)
            assert (theirs == mine.as_numpy("latents")).all()
            kept = {"state": tensor(module, "state", mine.as_numpy("state"))}
        message, status = refused(lambda name=name: latents(client, module, "memory", frames[0], sequence_id=name))
        assert START in message, (message, status)
        assert status in ("400", "StatusCode.INVALID_ARGUMENT"), (message, status)


def errors(client, module, text):
    message, status = refused(lambda: latents(client, module, "nobody"))
    assert "no model 'nobody' is served" in message, (message, status)
    assert status in ("404", "StatusCode.NOT_FOUND"), (message, status)
    wrong = tensor(module, "frames", FRAMES.astype(np.float32))
    message, status = refused(lambda: client.infer("plain", [wrong]))
    assert message.endswith("input 'frames' must be UINT8, got FP32"), message
    message, _ = refused(lambda: client.infer("plain", [tensor(module, "pictures", FRAMES)]))
    assert "did you mean" in message or "known: " in message


def json_and_compression(client):
    expected = latents(client, httpclient)
    plain = client.infer(
        "plain",
        [tensor(httpclient, "frames", FRAMES, binary_data=False)],
        outputs=[httpclient.InferRequestedOutput("latents", binary_data=False)],
    )
    assert (plain.as_numpy("latents") == expected).all()
    for algorithm in ("gzip", "deflate"):
        options = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        assert (latents(client, httpclient, **options) == expected).all()
        large = client.infer(
            "plain",
            [tensor(httpclient, "frames", FRAMES, binary_data=False)],
            outputs=[httpclient.InferRequestedOutput("reconstruction")],
            **options,
        )
        assert large.as_numpy("reconstruction").shape == FRAMES.shape
    waiting = [client.async_infer("plain", [tensor(httpclient, "frames", FRAMES)]) for _ in range(4)]
    assert all((one.get_result().as_numpy("latents") == expected).all() for one in waiting)


def streams(client):
    expected = latents(client, grpcclient)
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    frames = [np.roll(FRAMES, step, 1)[:2] for step in range(4)]
    for step, part in enumerate(frames):
        flags = {"sequence_id": 99, "sequence_start": step == 0, "sequence_end": step == 3}
        client.async_stream_infer("memory", [tensor(grpcclient, "frames", part)], request_id=str(step), **flags)
    client.async_stream_infer("nobody", [tensor(grpcclient, "frames", FRAMES)], request_id="4")
    client.async_stream_infer("plain", [tensor(grpcclient, "frames", FRAMES)], request_id="5")
    found = [answers.get(timeout=30) for _ in range(6)]
    client.stop_stream()
    for step, (result, error) in enumerate(found[:4]):
        flags = {"sequence_id": 100, "sequence_start": step == 0, "sequence_end": step == 3}
        assert error is None
        assert result.get_response().id == str(step)
        assert (result.as_numpy("latents") == latents(client, grpcclient, "memory", frames[step], **flags)).all()
    assert "no model 'nobody'" in found[4][1].message()
    assert found[5][1] is None
    assert (found[5][0].as_numpy("latents") == expected).all()


def compressed_grpc(client):
    expected = latents(client, grpcclient)
    for algorithm in ("gzip", "deflate"):
        assert (latents(client, grpcclient, compression_algorithm=algorithm) == expected).all()


def tokens(http_port, grpc_port, token):
    header = {"Authorization": "Bearer " + token}
    with httpclient.InferenceServerClient(f"127.0.0.1:{http_port}") as client:
        assert client.is_server_live()
        message, status = refused(lambda: latents(client, httpclient))
        assert "token" in message, (message, status)
        assert status == "401", (message, status)
        # a copy: tritonclient adds headers of its own to it
        over_http = latents(client, httpclient, headers=dict(header))
    with grpcclient.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        assert client.is_server_live()
        message, status = refused(lambda: latents(client, grpcclient))
        assert "token" in message, (message, status)
        assert status == "StatusCode.UNAUTHENTICATED", (message, status)
        assert (latents(client, grpcclient, headers={k.lower(): v for k, v in header.items()}) == over_http).all()


def main():
    http_port, grpc_port, http_with_token, grpc_with_token, token = sys.argv[1:]
    done = 0
    shared = (health_and_metadata, versions_and_statistics, other_readings_and_identifiers, sequences, errors)
    with httpclient.InferenceServerClient(f"127.0.0.1:{http_port}", concurrency=4) as client:
        for check in shared:
            check(client, httpclient, lambda value: value)
            done += 1
        json_and_compression(client)
        over_http = latents(client, httpclient)
    with grpcclient.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        for check in shared:
            check(client, grpcclient, as_dict)
            done += 1
        streams(client)
        compressed_grpc(client)
        assert (latents(client, grpcclient) == over_http).all()
    tokens(http_with_token, grpc_with_token, token)
    print(done + 5, "checks passed with Python", sys.version.split()[0], "tritonclient", version("tritonclient"))


def as_dict(message):
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


if __name__ == "__main__":
    main()
