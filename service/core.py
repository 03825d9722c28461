"""What the service does, whatever it is asked through: metadata, inference with memory, statistics."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from foundation.errors import in_one_line, nearest
from service.batching import EncoderThread, Job
from service.bodies import Allowance
from service.errors import ServiceError, bad_request, refusal_of
from service.loaded_model import LoadedModel
from service.messages import Answer, InferRequest, read_sequence, read_timeout
from service.models import VERSION, Models, Served
from service.options import Batching, Limits
from service.sessions import Key, Session, Sessions
from service.statistics import ModelStatistics, Series, exposed, model_series
from service.tensors import SentTensor, read_tensor, tensor_bytes

NAME = "minerl-perception"
EXTENSIONS = ["binary_tensor_data", "parameters", "sequence", "statistics"]
_INPUTS = ("frames", "action", "reset", "state")
_BATCHING = ("exact", "fast", "alone")


@dataclass
class Inputs:
    """The inputs of a request, read and checked."""

    frames: np.ndarray
    action: np.ndarray | None
    reset: np.ndarray | None
    state: np.ndarray | None


class Service:
    """Serves models to one event loop. `owner` is the digest of the token that a client has shown, "" where none is asked for."""

    def __init__(self, models: Models, limits: Limits, batching: Batching, loop: asyncio.AbstractEventLoop) -> None:
        self.models, self.limits, self.batching = models, limits, batching
        self.sessions = Sessions(limits.sequences, limits.sequence_bytes, limits.sequence_seconds)
        self.encoder = EncoderThread(loop, limits.rows)
        self.allowance = Allowance(limits.reading_bytes)
        self.ready = True
        """False while the service drains: load balancers and people then go elsewhere."""
        self._refused: Counter[tuple[str, str]] = Counter()
        self.is_shared: Callable[[], bool] = lambda: False
        """Whether other processes answer at the same address: then none of them may keep the memory of a sequence."""

    def close(self) -> None:
        self.encoder.close()

    def server_metadata(self) -> dict[str, Any]:
        extensions = [one for one in EXTENSIONS if one != "sequence" or not self.is_shared()]
        return {"name": NAME, "version": _own_version(), "extensions": extensions, "models": list(self.models.served)}

    def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        return self.models.find(name, version).loaded.metadata(name, VERSION, self.batching)

    def model_ready(self, name: str, version: str = "") -> bool:
        self.models.find(name, version)
        return self.ready

    def statistics(self, name: str = "", version: str = "") -> dict[str, Any]:
        """Return Triton's statistics of a model, of all without a name."""
        found = [self.models.find(name, version)] if name else list(self.models.served.values())
        return {"model_stats": [served.statistics.shown(served.name, VERSION) for served in found]}

    def metrics(self) -> str:
        """Return all that is counted, in Prometheus's text format."""
        self.sessions.end_idle()
        models = [(one.name, VERSION, one.statistics, self.encoder.pending(one.name)) for one in self.models.served.values()]
        open_ = [({"model": name, "version": VERSION}, float(self.sessions.count(name))) for name in self.models.served]
        refused = [({"protocol": protocol, "code": code}, float(count)) for (protocol, code), count in sorted(self._refused.items())]
        own = [
            Series("minerl_perception_refused_requests", "Requests refused before they reached a model", "counter", refused),
            Series("minerl_perception_sequences", "Open sequences", "gauge", open_),
            Series("minerl_perception_sequence_bytes", "Memory that open sequences hold", "gauge", [({}, self.sessions.bytes)]),
            Series("minerl_perception_waiting_rows", "Frames that wait for the encoder", "gauge", [({}, self.encoder.waiting_rows)]),
        ]
        return exposed([*model_series(models), *own])

    def refused(self, protocol: str, code: str) -> None:
        """Count a request that did not come as far as a model: no token, no such route, too large, too late ..."""
        self._refused[protocol, code] += 1

    async def infer(self, request: InferRequest, owner: str = "") -> Answer:
        """Answer a request for inference; raise `ServiceError` where it cannot be."""
        begun = time.perf_counter_ns()
        served = self.models.find(request.model, request.version)
        try:
            answer = await self._answer(served, request, owner)
        except asyncio.CancelledError:
            served.statistics.failed(time.perf_counter_ns() - begun, 504)
            raise
        except Exception as error:
            raise _counted(served, error, begun) from None
        served.statistics.success.add(time.perf_counter_ns() - begun)
        return answer

    async def encode_nothing(self) -> None:
        """Encode a black frame with each model, which tells whether they can; raise `ServiceError` where one cannot."""
        for served in self.models.served.values():
            model, statistics = served.loaded, ModelStatistics()
            frames = np.zeros((1, *model.frozen.frame_shape), np.uint8)
            action = np.zeros((1, model.frozen.action_size), np.float32) if model.frozen.action_size else None
            wanted = tuple(model.resolve(None, False).values())
            future: asyncio.Future[dict[str, np.ndarray]] = asyncio.get_running_loop().create_future()
            job = Job(model, statistics, frames, action, model.states.fresh(1), wanted, "exact", future)
            await self.encoder.encode(job, self.limits.answer_seconds)

    async def _answer(self, served: Served, request: InferRequest, owner: str) -> Answer:
        model, sequence = served.loaded, read_sequence(request.parameters)
        if sequence.id is not None and self.is_shared():
            raise bad_request("sequence_id: this service has several replicas, and none keeps a memory; send input 'state' instead")
        inputs = _read_inputs(model, request.inputs, self.limits.rows)
        if inputs.state is not None and sequence.id is not None:
            raise bad_request("a request has input 'state' or a sequence_id, not both: one of both keeps the memory")
        wanted = model.resolve(request.outputs, with_state=sequence.id is None)
        _check_size(model, request, wanted, len(inputs.frames), self.limits.answer_bytes)
        key: Key = (owner, request.model, sequence.id or "")
        session = self._session(key, model, len(inputs.frames), sequence.start) if sequence.id is not None else None
        turn: AbstractAsyncContextManager[Any] = nullcontext() if session is None else session.turn
        async with turn:
            if session is not None:
                session.check(key, len(inputs.frames))
                inputs.state = session.rows
            try:
                found = await self._encode(served, model, request, inputs, tuple(dict.fromkeys(wanted.values())))
            except BaseException:
                if session is not None and sequence.start:
                    # its first frame was not seen: to go on from there would be a fresh state in disguise
                    self.sessions.end(key, session)
                raise
            if session is not None and sequence.keep_state:
                self.sessions.keep(key, session, found["state"])
            if session is not None and sequence.end:
                self.sessions.end(key, session)
        told = {"sequence_id": sequence.id, "sequence_start": sequence.start, "sequence_end": sequence.end}
        parameters = {} if sequence.id is None else told
        # a client that keeps the memory finds out that weights have changed
        parameters["weights_sha256"] = model.info.weights_sha256
        return Answer(request.model, VERSION, request.id, {name: found[kind] for name, kind in wanted.items()}, parameters)

    def _session(self, key: Key, model: LoadedModel, rows: int, start: bool) -> Session:
        if start:
            return self.sessions.start(key, model.states.fresh(rows), model.states.digest)
        return self.sessions.find(key, model.states.digest)

    async def _encode(
        self, served: Served, model: LoadedModel, request: InferRequest, inputs: Inputs, wanted: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        rows = len(inputs.frames)
        state = model.states.fresh(rows) if inputs.state is None else inputs.state
        action = _action(model, inputs, state)
        if inputs.reset is not None and inputs.reset.any():
            state = np.where(inputs.reset[:, None], np.uint8(0), state)
            action = None if action is None else np.where(inputs.reset[:, None], np.float32(0), action)
        batching = request.parameters.get("batching", self.batching)
        if batching not in _BATCHING:
            raise bad_request(f"batching must be one of {', '.join(_BATCHING)}, got {in_one_line(batching)}")
        future: asyncio.Future[dict[str, np.ndarray]] = asyncio.get_running_loop().create_future()
        job = Job(model, served.statistics, inputs.frames, action, state, wanted, batching, future)
        asked = [seconds for seconds in (read_timeout(request.parameters), request.seconds) if seconds is not None]
        return await self.encoder.encode(job, min(*asked, self.limits.answer_seconds) if asked else self.limits.answer_seconds)


def _counted(served: Served, error: Exception, begun: int) -> ServiceError:
    """Return what becomes of an error that is among a model's failures."""
    # not in the function that raises it: an error in one of its names would keep the request's tensors until the next round of garbage
    refused = refusal_of(error)
    refused.counted = True
    served.statistics.failed(time.perf_counter_ns() - begun, refused.status)
    return refused


def _read_inputs(model: LoadedModel, sent: list[SentTensor], most_rows: int) -> Inputs:
    by_name = {tensor.name: tensor for tensor in sent}
    if len(by_name) < len(sent):
        raise bad_request("two inputs have the same name")
    for name in by_name:
        if name not in _INPUTS:
            raise bad_request(f"no input '{in_one_line(name)}': {nearest(str(name), _INPUTS)}")
    if "frames" not in by_name:
        raise bad_request("input 'frames' is missing")
    if "action" in by_name and not model.frozen.action_size:
        raise bad_request(f"input 'action': model '{model.name}' takes no actions")
    if "state" in by_name and not model.states.size:
        raise bad_request(f"input 'state': model '{model.name}' has no memory")
    frames = _read_frames(model, by_name["frames"], most_rows)
    rows = len(frames)
    action = _read_rows(by_name, "action", "FP32", rows, (model.frozen.action_size,)) if model.frozen.action_size else None
    if action is not None and not np.isfinite(action).all():
        raise bad_request("input 'action' has values that are not finite numbers")
    reset = _read_rows(by_name, "reset", "BOOL", rows, ())
    state = _read_rows(by_name, "state", "UINT8", rows, (model.states.size,)) if model.states.size else None
    if state is not None:
        model.states.check(state)
    return Inputs(frames, action, reset, state)


def _read_frames(model: LoadedModel, sent: SentTensor, most_rows: int) -> np.ndarray:
    frames, channels = read_tensor(sent, "UINT8"), model.frozen.frame_shape[2]
    if frames.ndim != 4 or frames.shape[3] != channels or not frames.size:
        raise bad_request(f"input 'frames' must be pictures of shape [rows, height, width, {channels}], got {list(frames.shape)}")
    if len(frames) > most_rows:
        raise ServiceError(413, f"input 'frames' has {len(frames)} rows; at most {most_rows} are taken at a time")
    if max(frames.shape[1:3]) > 2**14:
        raise ServiceError(413, f"input 'frames' has pictures of {frames.shape[1]}x{frames.shape[2]}; at most {2**14} a side are taken")
    return frames


def _read_rows(sent: dict[str, SentTensor], name: str, datatype: str, rows: int, shape: tuple[int, ...]) -> np.ndarray | None:
    if name not in sent:
        return None
    array = read_tensor(sent[name], datatype)
    if array.shape != (rows, *shape):
        raise bad_request(f"input '{name}' must have the shape {[rows, *shape]}, got {list(array.shape)}")
    return array


def _check_size(model: LoadedModel, request: InferRequest, wanted: dict[str, str], rows: int, most: int) -> None:
    """Raise `ServiceError` for a request whose answer would have more than `most` bytes; `wanted` is what its outputs stand for."""
    outputs = [(model.meant(kind), request.is_binary(name)) for name, kind in wanted.items()]
    of_a_row = sum(tensor_bytes(output.datatype, output.shape, binary) for output, binary in outputs)
    if rows * of_a_row <= most:
        return
    remedies = [f"send at most {most // of_a_row} rows at a time" if most >= of_a_row else "ask for fewer outputs"]
    if not all(binary for _, binary in outputs):
        remedies.append("ask for binary data (the parameter binary_data_output), which takes fewer bytes")
    text = f"the answer to {rows} rows would have up to {rows * of_a_row} bytes, and at most {most} are given"
    raise ServiceError(413, f"{text}; {', or '.join(remedies)}")


def _action(model: LoadedModel, inputs: Inputs, state: np.ndarray) -> np.ndarray | None:
    """Return the actions that led to the frames; zeros where there are none because every row begins anew."""
    if inputs.action is not None or not model.frozen.action_size:
        return inputs.action
    begins = ~state.any(1) if state.shape[1] else np.ones(len(state), bool)
    if inputs.reset is not None:
        begins = begins | inputs.reset
    if not begins.all():
        raise bad_request(f"input 'action' is missing: the {model.frozen.action_size} numbers of the action that led to each frame")
    return np.zeros((len(state), model.frozen.action_size), np.float32)


def _own_version() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "0"
