"""gRPC on the same core as HTTP: the same bits, the same refusals."""

import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest

from service.grpc_messages import MESSAGES, SERVICE
from service.tokens import Tokens
from tests.fixtures.service import DATATYPES, Client, random_frames, with_limits

RAW = {np.dtype(np.uint8): np.uint8, np.dtype(np.float32): np.float32, np.dtype(bool): bool}
TOKENS = ("first-token-of-all", "second-token-of-all")


@pytest.fixture(scope="module")
def running(start_service, small_encoders):
    return start_service(*small_encoders.values(), grpc_port=0)


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        yield channel


def call(channel, method, message, **options):
    serialize = {"request_serializer": lambda one: one.SerializeToString()} if not isinstance(message, bytes) else {}
    return channel.unary_unary(
        f"/{SERVICE}/{method}", response_deserializer=MESSAGES[f"{method}Response"].FromString, _registered_method=True, **serialize
    )(message, timeout=30, **options)


def infer_request(model="plain", parameters=None, raw=True, **inputs):
    message = MESSAGES["ModelInferRequest"](model_name=model)
    for name, array in inputs.items():
        tensor = message.inputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        if raw:
            message.raw_input_contents.append(array.tobytes())
        else:
            field = {"UINT8": "uint_contents", "FP32": "fp32_contents", "BOOL": "bool_contents"}[tensor.datatype]
            getattr(tensor.contents, field).extend(array.reshape(-1).tolist())
    for name, value in (parameters or {}).items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


def latents(response):
    index = [output.name for output in response.outputs].index("latents")
    return np.frombuffer(response.raw_output_contents[index], np.float32).reshape(response.outputs[index].shape)


def code(call_):
    with pytest.raises(grpc.RpcError) as refused:
        call_()
    return refused.value.code().name, refused.value.details()


@pytest.mark.parametrize("raw", [True, False])
def test_latents_are_those_of_http(running, channel, raw):
    frames = random_frames(8)
    over_http = Client(running.port).infer("plain", frames=frames)["latents"]
    np.testing.assert_array_equal(latents(call(channel, "ModelInfer", infer_request(frames=frames, raw=raw))), over_http)


def test_a_sequence_goes_on_from_one_transport_to_the_other(running, channel):
    frames, reset = random_frames(3), np.array([False, True, False])
    start = {"sequence_id": "both", "sequence_start": True}
    call(channel, "ModelInfer", infer_request("memory", start, frames=frames))
    http, alone = Client(running.port), Client(running.port)
    alone.infer("memory", None, {"sequence_id": "alone", "sequence_start": True}, frames=frames)
    got = http.infer("memory", None, {"sequence_id": "both"}, frames=frames, reset=reset)["latents"]
    np.testing.assert_array_equal(got, alone.infer("memory", None, {"sequence_id": "alone"}, frames=frames, reset=reset)["latents"])


def test_metadata_has_the_same_properties_as_over_http(running, channel):
    told = call(channel, "ModelMetadata", MESSAGES["ModelMetadataRequest"](name="told"))
    assert dict(told.properties) == Client(running.port).get("/v2/models/told")["properties"]


def test_what_is_wrong_has_a_code_and_words(channel):
    frames = random_frames(1)
    assert code(lambda: call(channel, "ModelInfer", b"\xff\xff\xff")) == ("INVALID_ARGUMENT", "the message is no ModelInferRequest")
    assert code(lambda: call(channel, "ModelInfer", infer_request("nobody", frames=frames)))[0] == "NOT_FOUND"
    assert code(lambda: call(channel, "ModelInfer", infer_request(frames=frames.astype(np.float32))))[0] == "INVALID_ARGUMENT"
    truncated = infer_request(frames=frames)
    truncated.raw_input_contents[0] = truncated.raw_input_contents[0][:-1]
    name, words = code(lambda: call(channel, "ModelInfer", truncated))
    assert name == "INVALID_ARGUMENT"
    assert "12288 bytes" in words
    shape = infer_request(frames=frames[:0])
    shape.inputs[0].shape[1:3] = [2**40, 2**40]
    name, words = code(lambda: call(channel, "ModelInfer", shape))
    assert (name, "input 'frames' has the shape" in words) == ("INVALID_ARGUMENT", True)
    unknown = code(lambda: call(channel, "ModelInfer", infer_request("memory", {"sequence_id": 1}, frames=frames)))
    assert "START" in unknown[1]
    name, _ = code(lambda: channel.unary_unary(f"/{SERVICE}/RepositoryIndex", _registered_method=True)(b"", timeout=30))
    assert name == "UNIMPLEMENTED"


def test_a_message_beyond_the_limit_is_refused_and_the_next_answered(start_service, small_encoders):
    running = start_service(small_encoders["plain"], grpc_port=0, limits=with_limits(body_bytes=2**17))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        assert code(lambda: call(channel, "ModelInfer", infer_request(frames=random_frames(16))))[0] == "RESOURCE_EXHAUSTED"
        bomb = infer_request(frames=np.zeros((400, 64, 64, 3), np.uint8))
        squeezed = lambda: call(channel, "ModelInfer", bomb, compression=grpc.Compression.Gzip)  # noqa: E731
        assert code(squeezed)[0] == "RESOURCE_EXHAUSTED"
        assert latents(call(channel, "ModelInfer", infer_request(frames=random_frames(8)))).shape == (8, 16)


def test_an_answer_beyond_the_limit_is_refused_and_the_next_given(start_service, small_encoders):
    running = start_service(small_encoders["plain"], grpc_port=0, limits=with_limits(answer_bytes=2**17))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:

        def reconstructed(rows):
            message = infer_request(frames=np.zeros((rows, 1, 1, 3), np.uint8))
            message.outputs.add(name="reconstruction")
            return call(channel, "ModelInfer", message)

        name, words = code(lambda: reconstructed(11))
        assert (name, "send at most 10 rows at a time" in words) == ("RESOURCE_EXHAUSTED", True)
        assert reconstructed(10).outputs[0].shape == [10, 64, 64, 3]


def test_two_tokens_with_one_sequence_id_do_not_meet(start_service, small_encoders):
    running = start_service(small_encoders["memory"], grpc_port=0, tokens=Tokens(TOKENS))
    first, second = ([("authorization", f"Bearer {token}")] for token in TOKENS)
    frames = random_frames(1)
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        start = infer_request("memory", {"sequence_id": "one", "sequence_start": True}, frames=frames)
        go_on = infer_request("memory", {"sequence_id": "one"}, frames=frames)
        assert code(lambda: call(channel, "ModelInfer", start))[0] == "UNAUTHENTICATED"
        call(channel, "ModelInfer", start, metadata=first)
        assert "START" in code(lambda: call(channel, "ModelInfer", go_on, metadata=second))[1]
        call(channel, "ModelInfer", start, metadata=second)
        a = latents(call(channel, "ModelInfer", go_on, metadata=first))
        b = latents(call(channel, "ModelInfer", go_on, metadata=second))
        np.testing.assert_array_equal(a, b)


def test_answers_of_a_stream_come_in_order_and_its_errors_in_their_place(channel):
    method = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
        request_serializer=lambda one: one.SerializeToString(),
        _registered_method=True,
    )
    sent = [
        infer_request(
            "memory" if step != 2 else "nobody", {"sequence_id": 8, "sequence_start": step == 0}, frames=random_frames(1, seed=step)
        )
        for step in range(5)
    ]
    for step, message in enumerate(sent):
        message.id = str(step)
    hold = threading.Event()

    def requests():
        yield from sent
        hold.wait(30)

    answers = method(requests(), timeout=60)
    got = [next(answers) for _ in sent]
    hold.set()
    assert [one.infer_response.id for one in got] == [str(step) for step in range(5)]
    assert [bool(one.error_message) for one in got] == [False, False, True, False, False]


_TWICE = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
file.message_type.add(name="ModelInferRequest").field.add(name="model_name", number=1, type=9, label=1)
descriptor_pool.Default().Add(file)
import service.grpc_messages as ours
theirs = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest"))
sent = theirs(model_name="plain").SerializeToString()
print(ours.MESSAGES["ModelInferRequest"].FromString(sent).model_name)
"""


def test_another_file_may_define_the_same_messages_in_this_process():
    ran = subprocess.run([sys.executable, "-c", _TWICE], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "plain\n", ran.stderr
