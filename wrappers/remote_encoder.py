"""A frozen encoder on a server: pictures go out, scaled latents come back, and the memory stays here."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from encoders.artifact import EncoderInfo
from encoders.encoder import State
from foundation.documents import checked, parse, schema
from foundation.errors import UserError
from foundation.places import Address, Scale
from foundation.presets import build
from wrappers.inference_messages import LENGTH_HEADER, BadAnswer, Wanted, infer_answer, infer_request
from wrappers.picture_encoder import CPU_CHUNK, fitting
from wrappers.service_connection import MOST_BYTES, ServiceConnection
from wrappers.state_rows import BLOBS

OPENING_SECONDS = 20.0
"""How long a service may be away that is opened, which may have been started at the same time."""
DEADLINE_SECONDS = 300.0
"""How long one may be away under a running agent, while it is restarted."""
_MOST_ROWS = 64
"""Of a question; a whole number of chunks."""
_STATE, _MASK, _RECONSTRUCTION = BLOBS, "mask", "reconstruction"

_TEXTS = ("weights_sha256", "info", "batching")
_PROPERTIES = schema(
    weights_sha256=str,
    info=str,
    batching=str,
    memory=bool,
    state_size=int,
    action_size=int,
    parameters=int,
    readings=dict[str, schema({"scales": dict[str, str]}, set=bool, output=str)],  # type: ignore[misc]
)
_METADATA = schema(properties=dict[str, str], outputs=list[schema(name=str, shape=list[int])])  # type: ignore[misc]


class RemoteEncoder:
    """An encoder of a perception service (`serve_encoder.py`), with the interface of `FrozenEncoder`.

    The service keeps nothing: the encoder's memory is `{"state": uint8 (B, S)}`, a row an environment, zeros before the first frame, and
    goes along with every question. So any question may be repeated, and is for `deadline_seconds` while the service is away; one that is
XX those of `FrozenEncoder`. A pickled one connects
    anew. `batching` None: with the bits of a `FrozenEncoder` on such a device ("alone"), unless the service's own way is "fast".
    Raises `UserError` for an unknown reading, a scale that the service does not have, and where it is not to be had or understood.
    """

    device = torch.device("cpu")
    """Where states lie."""

    def __init__(
        self,
        address: str,
        latents: str | None = None,
        resize: bool = False,
        deadline_seconds: float = DEADLINE_SECONDS,
        batching: Literal["alone", "exact", "fast"] | None = None,
        scale: Scale | None = None,
    ) -> None:
        self.address = address if isinstance(address, Address) else Address(address)
        self.resize, self.deadline_seconds = resize, deadline_seconds
        self._service = ServiceConnection(self.address)
        self._path = f"/v2/models/{self.address.name}"
        about = self._metadata()
        properties = _properties(about["properties"], self.address)
        self.info = _info(properties["info"], self.address)
        if latents is not None and latents not in self.info.latents:
            raise UserError(f"{self.address}: no latents named '{latents}'; this encoder has: {', '.join(self.info.latents)}")
        self.reading = latents or next(iter(self.info.latents))
        self.has_memory: bool = properties["memory"]
        """Whether a latent depends on earlier frames."""
        self.action_size: int = properties["action_size"]
        """Length of the action vectors that `encode` wants; 0 for none."""
        self.actions = self.info.actions
        """What their numbers stand for, where the artifact says so."""
        self.parameter_count: int = properties["parameters"]
        """Trainable numbers in the whole model, decoder included."""
        reading = properties["readings"].get(self.reading)
        if reading is None:
            raise UserError(f"{self.address}: does not say how it gives the latents '{self.reading}'; is that a perception service?")
        self.is_set: bool = reading["set"]
        """Whether the rows of one frame's latents have no order."""
        self.scale: Scale = scale or self.info.scale
        """How its latents are scaled."""
        self._output = _output(reading, scale, self.info, self.address)
        self._outputs = {one["name"]: one["shape"][1:] for one in about["outputs"]}
        self._state_size: int = properties["state_size"]
        self._batching = batching or ("fast" if properties["batching"] == "fast" else "alone")

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one frame's latents."""
        return tuple(self.info.latents[self.reading])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames the encoder was trained on."""
        return self.info.frame_shape

    @property
    def generates(self) -> bool:
        """Whether its latents become frames again."""
        return _RECONSTRUCTION in self._outputs

    def placed(self) -> str:
        """Return where it computes."""
        return "service"

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first frame of `batch_size` episodes."""
        return {_STATE: torch.zeros(batch_size, self._state_size, dtype=torch.uint8)} if self.has_memory else {}

    def batch_rows(self, rows: int) -> int:
        """Return how many of so many frames are encoded together."""
        return CPU_CHUNK

    def on_cpu(self) -> "RemoteEncoder":
        """Return this encoder, which needs no device."""
        return self

    def encode(self, frames: np.ndarray, state: State | None = None, action: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Encode frames uint8 (B, H, W, C) into scaled latents float32 (B, *latent_shape), and the next state.

        `state` has B rows (None: before the first frame); `action` float (B, A) led to the frames (zeros after a reset).
        """
        frames = fitting(frames, self, self.resize)
        state = self.initial_state(len(frames)) if state is None else state
        inputs = {"frames": frames, **{name: tensor.numpy() for name, tensor in state.items()}}
        if self.action_size and action is not None:
            inputs["action"] = np.asarray(action, np.float32)
        wanted: Wanted = {self._output: (np.float32, self.latent_shape)}
        if self.has_memory:
            wanted[_STATE] = (np.uint8, (self._state_size,))
        found = self._asked(inputs, wanted)
        return found[self._output], {name: torch.from_numpy(found[name]) for name in state}

    def masks(self, frames: np.ndarray) -> np.ndarray:
        """Return where in frames uint8 (B, H, W, C) the thing is that pays: float32 (B, H, W) in [0, 1].

        Raises `UserError` where the encoder gives no masks.
        """
        size = self.frame_shape[:2]
        if self._outputs.get(_MASK) != list(size):
            raise UserError(f"a '{self.info.name}' gives no masks; use a critic")
        return self._asked({"frames": fitting(frames, self, self.resize)}, {_MASK: (np.float32, size)})[_MASK]

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Return the reconstructions of frames uint8 (B, H, W, C), uint8 of the encoder's frame size; it must generate."""
        return self._asked({"frames": frames}, {_RECONSTRUCTION: (np.uint8, self.frame_shape)})[_RECONSTRUCTION]

    def _asked(self, inputs: Mapping[str, np.ndarray], wanted: Wanted) -> dict[str, np.ndarray]:
        """Return the outputs that are `wanted`, by type and shape of a row, for all rows of the inputs."""
        rows = len(inputs["frames"])
        parts = [
            self._asked_once({name: tensor[start : start + _MOST_ROWS] for name, tensor in inputs.items()}, wanted)
            for start in range(0, rows, _MOST_ROWS)
        ]
        if len(parts) == 1:
            return parts[0]
        return {
            name: np.concatenate([part[name] for part in parts]) if parts else np.zeros((0, *shape), kind)
            for name, (kind, shape) in wanted.items()
        }

    def _asked_once(self, inputs: Mapping[str, np.ndarray], wanted: Wanted) -> dict[str, np.ndarray]:
        rows = len(inputs["frames"])
        whole: Wanted = {name: (kind, (rows, *shape)) for name, (kind, shape) in wanted.items()}
        size = sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in whole.values())
        body, head = infer_request(inputs, list(wanted), {"batching": self._batching})
        headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(head)}
        answer = self._service.ask("POST", f"{self._path}/infer", body, headers, within=self.deadline_seconds, most=size + MOST_BYTES)
        try:
            found, parameters = infer_answer(answer.body, answer.head_length, whole)
        except BadAnswer as error:
            raise UserError(f"{self.address}: not an answer that this version understands: {error}") from error
        self._refuse_other_weights(str(parameters.get("weights_sha256")))
        return found

    def _refuse_other_weights(self, found: str) -> None:
        if found != self.info.weights_sha256:
            raise UserError(
                f"{self.address}: has the weights {found[:16]} by now, and this program began with {self.info.weights_sha256[:16]}; "
                "serve those again, or begin anew"
            )

    def _metadata(self) -> dict[str, Any]:
        """Return what the service says of the encoder."""
        found = self._service.document(self._path, OPENING_SECONDS)
        return checked(_METADATA, found, self.address, "is that a perception service?")


def _output(reading: dict[str, Any], scale: Scale | None, info: EncoderInfo, address: Address) -> str:
    """Return the name of the output that is a reading in a scale."""
    scales = reading.get("scales") or {}
    if scale in (None, info.scale):
        return str(reading["output"])
    if scale not in scales:
        has = ", ".join(scales) or info.scale
        raise UserError(f"{address}: does not scale these latents by '{scale}', but by {has}; serve an encoder that was saved with that")
    return scales[scale]


def _properties(texts: dict[str, str], address: Address) -> dict[str, Any]:
    """Return a model's properties, which the protocol has as texts: JSON where they are more."""
    values = {name: text if name in _TEXTS else parse(text, address) for name, text in texts.items() if name in _PROPERTIES.__annotations__}
    return checked(_PROPERTIES, values, address, "is that a perception service?")


def _info(text: str, address: Address) -> EncoderInfo:
    """Return what a service says of its encoder; where its store lies, it does not."""
    values = parse(text, address)
    if isinstance(values, dict) and isinstance(values.get("store"), dict):
        values["store"]["path"] = str(address)
    return build(EncoderInfo, values, str(address))
