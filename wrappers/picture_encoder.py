"""What agents see through: an encoder in this process or on a server. Both have this interface, and take the same frames."""

from typing import Protocol, Self

import numpy as np
import torch

from encoders.actions import Actions
from encoders.artifact import EncoderInfo
from encoders.encoder import State
from foundation.errors import UserError
from frames.resize import resize_frames

CPU_CHUNK = 8
"""Measured on CPUs: batches of 8 are the fastest a frame, and a fixed split keeps the last bits fixed."""


class PictureEncoder(Protocol):
    """Turns pictures into scaled latents; the caller keeps the state, one row an environment.

    `wrappers.FrozenEncoder` does it here, `wrappers.RemoteEncoder` on a server, `wrappers.SideBySide` with several of both.
    """

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is."""

    @property
    def reading(self) -> str:
        """Which of its readings the latents are."""

    @property
    def scale(self) -> str:
        """How they are scaled: unit, global or whiten."""

    @property
    def device(self) -> torch.device:
        """Where states lie."""

    @property
    def has_memory(self) -> bool:
        """Whether a latent depends on earlier frames."""

    @property
    def action_size(self) -> int:
        """Length of the action vectors that `encode` wants; 0 for none."""

    @property
    def actions(self) -> Actions | None:
        """What their numbers stand for, where the artifact says so."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one frame's latents."""

    @property
    def is_set(self) -> bool:
        """Whether the rows of one frame's latents have no order."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames the encoder was trained on."""

    @property
    def parameter_count(self) -> int:
        """Trainable numbers in the whole model, decoder included."""

    @property
    def generates(self) -> bool:
        """Whether its latents become frames again."""

    def placed(self) -> str:
        """Return where it computes: cpu, cuda or service."""

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first frame of `batch_size` episodes."""

    def batch_rows(self, rows: int) -> int:
        """Return how many of so many frames are encoded together."""

    def on_cpu(self) -> Self:
        """Return this encoder as a process without a GPU can use it."""

    def encode(self, frames: np.ndarray, state: State | None = None, action: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Encode frames uint8 (B, H, W, C) into scaled latents float32 (B, *latent_shape), and the next state.

        `state` has B rows (None: before the first frame); `action` float (B, A) led to the frames (zeros after a reset).
        """

    def masks(self, frames: np.ndarray) -> np.ndarray:
        """Return where in frames uint8 (B, H, W, C) the thing is that pays: float32 (B, H, W) in [0, 1].

        Raises `UserError` where the encoder gives no masks.
        """

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Return what becomes of frames uint8 (B, H, W, C), as such; the encoder must generate."""


def fitting(frames: np.ndarray, encoder: PictureEncoder, resize: bool) -> np.ndarray:
    """Return frames uint8 (B, H, W, C) as an encoder takes them, resized where that was asked for; raise `UserError` for others."""
    if frames.dtype != np.uint8 or frames.ndim != 4:
        raise UserError(f"frames must be uint8 (B, H, W, C), got {frames.dtype} {frames.shape}")
    if frames.shape[1:] == encoder.frame_shape:
        return frames
    if not resize or frames.shape[-1] != encoder.frame_shape[-1]:
        raise UserError(
            f"the encoder was built for frames of {encoder.frame_shape}, got {frames.shape[1:]}; "
            "make the environment's frames of that size, or ask for resize=True"
        )
    return resize_frames(frames, encoder.frame_shape[:2], encoder.info.resize)
