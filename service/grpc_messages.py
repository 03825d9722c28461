"""gRPC's messages of the Open Inference Protocol, made here rather than generated.

They live in a descriptor pool of their own: generated files share one pool, and two that define `inference.ModelInferRequest` in one
process, as with `tritonclient.grpc` imported too, would end it.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from service.errors import bad_request
from service.loaded_model import described
from service.messages import Answer, InferRequest
from service.tensors import SentTensor

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_SCHEMA = """
ServerLiveRequest
ServerLiveResponse: live bool 1
ServerReadyRequest
ServerReadyResponse: ready bool 1
ModelReadyRequest: name string 1, version string 2
ModelReadyResponse: ready bool 1
ServerMetadataRequest
ServerMetadataResponse: name string 1, version string 2, extensions string* 3
ModelMetadataRequest: name string 1, version string 2
TensorMetadata: name string 1, datatype string 2, shape int64* 3
ModelMetadataResponse: name string 1, versions string* 2, platform string 3, inputs TensorMetadata* 4, outputs TensorMetadata* 5, \
properties {string} 6
InferParameter: bool_param bool 1?, int64_param int64 2?, string_param string 3?, double_param double 4?, uint64_param uint64 5?
InferTensorContents: bool_contents bool* 1, int_contents int32* 2, int64_contents int64* 3, uint_contents uint32* 4, \
uint64_contents uint64* 5, fp32_contents float* 6, fp64_contents double* 7, bytes_contents bytes* 8
InferTensor: name string 1, datatype string 2, shape int64* 3, parameters {InferParameter} 4, contents InferTensorContents 5
RequestedOutput: name string 1, parameters {InferParameter} 2
ModelInferRequest: model_name string 1, model_version string 2, id string 3, parameters {InferParameter} 4, inputs InferTensor* 5, \
outputs RequestedOutput* 6, raw_input_contents bytes* 7
ModelInferResponse: model_name string 1, model_version string 2, id string 3, parameters {InferParameter} 4, outputs InferTensor* 5, \
raw_output_contents bytes* 6
ModelStreamInferResponse: error_message string 1, infer_response ModelInferResponse 2
ModelStatisticsRequest: name string 1, version string 2
StatisticDuration: count uint64 1, ns uint64 2
InferStatistics: success StatisticDuration 1, fail StatisticDuration 2, queue StatisticDuration 3, compute_input StatisticDuration 4, \
compute_infer StatisticDuration 5, compute_output StatisticDuration 6
InferBatchStatistics: batch_size uint64 1, compute_input StatisticDuration 2, compute_infer StatisticDuration 3, \
compute_output StatisticDuration 4
ModelStatistics: name string 1, version string 2, last_inference uint64 3, inference_count uint64 4, execution_count uint64 5, \
inference_stats InferStatistics 6, batch_stats InferBatchStatistics* 7
ModelStatisticsResponse: model_stats ModelStatistics* 1
"""
"""A message a line: its fields with type and number; * repeats, {} maps from strings, ? is a choice of one of them."""
_CONTENTS = {"BOOL": "bool_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}


def _fill(message: descriptor_pb2.DescriptorProto, name: str, kind: str, number: str) -> None:
    """Add a field of the schema to a message."""
    field = message.field.add(name=name, number=int(number.rstrip("?")), label=3 if kind.endswith("*") or kind.startswith("{") else 1)
    if kind.startswith("{"):
        # protobuf has a map as a list of messages of a key and a value
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _fill(entry, "key", "string", "1")
        _fill(entry, "value", kind.strip("{}"), "2")
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{message.name}.{entry.name}"
        return
    kind = kind.rstrip("*")
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if number.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="minerl_perception.proto", package=PACKAGE, syntax="proto3")
    for line in _SCHEMA.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for words in filter(None, fields.split(",")):
            _fill(message, *words.split())
    pool = descriptor_pool.DescriptorPool()
    found = pool.Add(file) or pool.FindFileByName(file.name)
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.message_types_by_name.items()}


MESSAGES: dict[str, Any] = _classes()
"""The messages' classes by name."""


def parse(name: str, content: bytes) -> Any:
    """Parse a message; raise `ServiceError` for what is none."""
    try:
        return MESSAGES[name].FromString(content)
    except DecodeError as error:
        raise bad_request(f"the message is no {name}") from error


def read_request(message: Any, seconds: float | None) -> InferRequest:
    """Read a `ModelInferRequest`, whose client waits for so many seconds."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise bad_request(f"raw_input_contents has {len(raw)} parts, and there are {len(message.inputs)} inputs")
    inputs = []
    for index, tensor in enumerate(message.inputs):
        field = _CONTENTS.get(tensor.datatype)
        content: Any = raw[index] if raw else list(getattr(tensor.contents, field)) if field else []
        inputs.append(SentTensor(tensor.name, tensor.datatype, list(tensor.shape), content))
    outputs = [output.name for output in message.outputs] or None
    parameters = read_parameters(message.parameters)
    return InferRequest(message.model_name, message.model_version, message.id, inputs, outputs, parameters, seconds)


def read_parameters(parameters: Any) -> dict[str, Any]:
    """Return parameters as plain values."""
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(parameter, choice)
    return found


def write_answer(answer: Answer) -> Message:
    """Return an answer as a `ModelInferResponse`, its tensors as raw bytes."""
    response = MESSAGES["ModelInferResponse"](model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, datatype, shape in described(answer.outputs):
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    response.raw_output_contents.extend(array.tobytes() for array in answer.outputs.values())
    for name, value in answer.parameters.items():
        parameter = response.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        elif value < 2**63:
            parameter.int64_param = value
        else:
            parameter.uint64_param = value
    return response
