"""A trained encoder that only looks: pictures in, scaled latents out."""

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders import EncoderArtifact, load_encoder
from encoders.encoder import Generates, GivesMasks, State, to_float
from encoders.scaling import Scaling
from foundation.errors import UserError
from foundation.places import Scale
from wrappers.picture_encoder import CPU_CHUNK, fitting

_in_forked_child = False


def _remember_fork() -> None:
    global _in_forked_child
    _in_forked_child = True


os.register_at_fork(after_in_child=_remember_fork)


class FrozenEncoder:
    """Encode uint8 frames with a frozen, stateless-by-itself encoder; the caller keeps the state.

    Latents are scaled with the statistics stored in the artifact: training and evaluation see the same numbers. `latents` names a reading
    of the encoder (None: its first), `scale` how that is scaled (None: as the artifact says). `resize` lets frames of other sizes in,
    through the resize that the training frames went through. Raises `UserError` for an unknown reading, a scale whose statistics the
    artifact lacks, a missing CUDA device or a damaged artifact.
    """

    def __init__(
        self,
        encoder: str | Path | EncoderArtifact,
        device: str = "cpu",
        latents: str | None = None,
        resize: bool = False,
        scale: Scale | None = None,
    ) -> None:
        artifact = encoder if isinstance(encoder, EncoderArtifact) else load_encoder(encoder)
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise UserError("device 'cuda' was asked for, but torch sees no CUDA device; use device 'cpu'")
        self.device = torch.device(device)
        self.info = artifact.info
        self.resize = resize
        try:
            self.reading = artifact.model.reading(latents)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.model = artifact.model.to(self.device).eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scale: Scale = scale or artifact.info.scale
        """How its latents are scaled."""
        where = str(encoder) if isinstance(encoder, (str, Path)) else "this encoder"
        self._scaled = Scaling(artifact.statistics[self.reading], self.scale, self.reading, self.is_set, where).to(self.device)
        self.has_memory = bool(self.model.initial_state(1))
        """Whether a latent depends on earlier frames."""
        self.action_size = self.model.action_size
        """Length of the action vectors that `encode` wants; 0 for none."""
        self.actions = artifact.info.actions
        """What their numbers stand for, where the artifact says so."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one frame's latents."""
        return self.model.latents[self.reading]

    @property
    def scaling(self) -> Scaling:
        """What the latents are scaled with."""
        return self._scaled

    @property
    def is_set(self) -> bool:
        """Whether the rows of one frame's latents have no order."""
        return self.reading in self.model.set_readings

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames the encoder was trained on."""
        return self.model.frame_shape

    @property
    def parameter_count(self) -> int:
        """Trainable numbers in the whole model, decoder included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def generates(self) -> bool:
        """Whether its latents become frames again."""
        return isinstance(self.model, Generates)

    def placed(self) -> str:
        """Return the kind of device it is on, by its weights; raise `RuntimeError` where that is not the one asked for."""
        return placed("encoder", self.model, self.device)

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first frame of `batch_size` episodes."""
        return {name: tensor.to(self.device) for name, tensor in self.model.initial_state(batch_size).items()}

    def batch_rows(self, rows: int) -> int:
        """Return how many of so many frames are encoded together: 8 on a CPU, all elsewhere."""
        return CPU_CHUNK if self.device.type == "cpu" else max(rows, 1)

    def on_cpu(self) -> "FrozenEncoder":
        """Return this encoder, or a copy of it on the CPU where it is elsewhere."""
        if self.device.type == "cpu":
            return self
        moved = deepcopy(self)
        moved.device = torch.device("cpu")
        moved.model.to(moved.device)
        moved._scaled.to(moved.device)
        return moved

    def encode(self, frames: np.ndarray, state: State | None = None, action: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Encode frames uint8 (B, H, W, C) into scaled latents float32 (B, *latent_shape), and the next state.

        `state` has B rows (None: before the first frame); `action` float (B, A) led to the frames (zeros after a reset).
        """
        frames = fitting(frames, self, self.resize)
        state = self.initial_state(len(frames)) if state is None else state
        chunk = self.batch_rows(len(frames))
        if 0 < len(frames) <= chunk:
            whole, following = self._encode_chunk(frames, state, action)
            return whole.cpu().numpy(), following
        parts = []
        for start in range(0, len(frames), chunk):
            rows = slice(start, start + chunk)
            before = {name: tensor[rows] for name, tensor in state.items()}
            parts.append(self._encode_chunk(frames[rows], before, None if action is None else action[rows]))
        latents = np.concatenate([part.cpu().numpy() for part, _ in parts]) if parts else np.zeros((0, *self.latent_shape), np.float32)
        return latents, {name: torch.cat([following[name] for _, following in parts]) for name in state}

    def masks(self, frames: np.ndarray) -> np.ndarray:
        """Return where in frames uint8 (B, H, W, C) the thing is that pays: float32 (B, H, W) in [0, 1].

        Raises `UserError` where the encoder gives no masks.
        """
        if not isinstance(self.model, GivesMasks):
            raise UserError(f"a '{self.info.name}' gives no masks; use a critic")
        frames = fitting(frames, self, self.resize)
        chunk = self.batch_rows(len(frames))
        return np.concatenate([self._mask_chunk(frames[start : start + chunk]) for start in range(0, len(frames), chunk)])

    @torch.inference_mode()
    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Return the reconstructions of frames uint8 (B, H, W, C), uint8 of the encoder's frame size; it must generate."""
        assert isinstance(self.model, Generates)
        rows = torch.from_numpy(frames).to(self.device).movedim(-1, 1).float().div(255)
        pictures = self.model.reconstruct(rows[:, None])[:, 0].clamp(0, 1).mul(255).round().to(torch.uint8)
        return pictures.movedim(1, -1).cpu().numpy()

    @torch.inference_mode()
    def _mask_chunk(self, frames: np.ndarray) -> np.ndarray:
        return self.model.masks(self._pictures(frames).unsqueeze(1)).squeeze(1).cpu().numpy()  # type: ignore[operator]

    @torch.inference_mode()
    def _encode_chunk(self, frames: np.ndarray, state: State, action: np.ndarray | None) -> tuple[Tensor, State]:
        previous = None if action is None else torch.as_tensor(action, dtype=torch.float32, device=self.device)
        latents, following = self.model.encode(self._pictures(frames), state, previous, self.reading)
        return self._scaled(latents), following

    def _pictures(self, frames: np.ndarray) -> Tensor:
        """Return frames uint8 (B, H, W, C) as the model takes them, on its device."""
        if _in_forked_child:
            _work_alone(self.device)
        rows = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        return to_float(rows).contiguous(memory_format=torch.channels_last)


def placed(what: str, model: torch.nn.Module, device: torch.device) -> str:
    """Return the kind of device that a model is on, by its weights; raise `RuntimeError` where it is not on that `device`."""
    found = {weight.device.type for weight in model.parameters()} or {device.type}
    if found != {device.type}:
        raise RuntimeError(f"the {what} is on {', '.join(sorted(found))}, and was to be on {device.type}")
    return device.type


def _work_alone(device: torch.device) -> None:
    """Make torch work in a process that was forked, as gymnasium's `AsyncVectorEnv` forks by default.

    The threads that torch shares its work out to did not come along, and it would wait for them for ever: one has to do.
    """
    if device.type == "cuda":
        raise UserError("an encoder on CUDA cannot be used in a forked process; start the environments' processes with context='spawn'")
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
