"""Several frozen encoders of the same pictures as one: their latents stand side by side."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from encoders.actions import Actions, difference
from encoders.artifact import EncoderInfo
from encoders.encoder import State
from foundation.errors import UserError
from wrappers.picture_encoder import PictureEncoder


class SideBySide:
    """Encode pictures with each of several encoders, one forward pass each, into one vector: the latents of the first, the second, ...

    Maps are flattened; so are sets if that was said (`flat`), else they are refused: a vector has no rows without an order. The state
    holds those of all, each under its encoder's number. All see the same pictures, resized alike, and the same actions, at one rate as
    far as they remember. Raises `UserError` where they cannot.
    """

    def __init__(self, parts: Sequence[PictureEncoder], flat: bool = False) -> None:
        _refuse_sets(() if flat else parts)
        self.parts = list(parts)
        self.info = joined_info([part.info.seen(part.reading, part.scale) for part in parts])  # type: ignore[arg-type]
        remembering = [part for part in parts if part.has_memory]
        for one, other in pairwise(remembering):
            if one.info.frames_per_second != other.info.frames_per_second:
                raise _apart(one, other, f"remember {one.info.frames_per_second:g} and {other.info.frames_per_second:g} frames/s")
        if remembering:
            store = replace(self.info.store, frames_per_second=remembering[0].info.frames_per_second)
            self.info = replace(self.info, store=store)
        acted = [part for part in parts if part.action_size]
        for one, other in pairwise(acted):
            if one.action_size != other.action_size or one.actions != other.actions:
                reason = difference(one.actions, other.actions) if one.actions and other.actions else "one does not say which"
                raise _apart(one, other, f"were trained with other actions ({reason})")
        self.action_size = acted[0].action_size if acted else 0
        """Length of the action vectors that `encode` wants; 0 for none."""
        self.actions: Actions | None = acted[0].actions if acted else None
        """What their numbers stand for, where the artifacts say so."""
        self.has_memory = bool(remembering)
        """Whether a latent depends on earlier frames."""
        self.is_set = False
        """Whether the rows of one frame's latents have no order."""
        self._sizes = [int(np.prod(part.latent_shape)) for part in parts]

    @property
    def reading(self) -> str:
        """Which readings the latents are."""
        return "+".join(part.reading for part in self.parts)

    @property
    def scale(self) -> str:
        """How each is scaled."""
        return "+".join(part.scale for part in self.parts)

    @property
    def device(self) -> torch.device:
        """Where states lie, but those of services."""
        return next((part.device for part in self.parts if part.device.type != "cpu"), self.parts[0].device)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one frame's latents."""
        return (sum(self._sizes),)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames the encoders were trained on."""
        return self.parts[0].frame_shape

    @property
    def parameter_count(self) -> int:
        """Trainable numbers in the whole models, decoders included."""
        return sum(part.parameter_count for part in self.parts)

    @property
    def generates(self) -> bool:
        """Whether the latents of one become frames again."""
        return any(part.generates for part in self.parts)

    def placed(self) -> str:
        """Return where it computes: cpu or cuda; service where all do it there."""
        found = [part.placed() for part in self.parts]
        return next((one for one in found if one != "service"), "service")

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first frame of `batch_size` episodes."""
        return self.joined_states([part.initial_state(batch_size) for part in self.parts])

    def states_apart(self, state: State) -> list[State]:
        """Return the state of each encoder out of that of all."""
        heads = [_key(number, "") for number in range(len(self.parts))]
        return [{name.removeprefix(head): tensor for name, tensor in state.items() if name.startswith(head)} for head in heads]

    def joined_states(self, states: Sequence[State]) -> State:
        """Return the state of all out of that of each encoder."""
        return {_key(number, name): tensor for number, state in enumerate(states) for name, tensor in state.items()}

    def batch_rows(self, rows: int) -> int:
        """Return how many of so many frames are encoded together: as many as the one that takes most at a time, which the others part."""
        return max(part.batch_rows(rows) for part in self.parts)

    def on_cpu(self) -> "SideBySide":
        """Return these encoders as a process without a GPU can use them."""
        return SideBySide([part.on_cpu() for part in self.parts], flat=True)

    def encode(self, frames: np.ndarray, state: State | None = None, action: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Encode frames uint8 (B, H, W, C) into scaled latents float32 (B, D), those of all side by side, and the next state.

        `state` has B rows (None: before the first frame); `action` float (B, A) led to the frames (zeros after a reset).
        """
        state = self.initial_state(len(frames)) if state is None else state
        latents: list[np.ndarray] = []
        following: list[State] = []
        for part, own, size in zip(self.parts, self.states_apart(state), self._sizes, strict=True):
            own = {name: tensor.to(part.device) for name, tensor in own.items()}
            found, after = part.encode(frames, own, action if part.action_size else None)
            latents.append(found.reshape(len(frames), size))
            following.append(after)
        return np.concatenate(latents, axis=1), self.joined_states(following)

    def masks(self, frames: np.ndarray) -> np.ndarray:
        """Raise `UserError`: a mask is one encoder's."""
        raise UserError("several encoders side by side give no masks; use one critic")

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Return what becomes of frames uint8 (B, H, W, C) in the first that generates, as such."""
        return next(part for part in self.parts if part.generates).reconstruct(frames)


def joined_info(infos: Sequence[EncoderInfo]) -> EncoderInfo:
    """Return what several encoders are together: names, digests and scales joined by +, one vector of latents, what the first learned from.

    Raises `UserError` where they do not see the same pictures.
    """
    first = infos[0]
    if len(infos) == 1:
        return first
    for other in infos[1:]:
        if other.frame_shape != first.frame_shape or other.resize != first.resize:
            raise UserError(
                f"encoders side by side see the same pictures, and '{first.name}' was trained on {first.frame_shape} resized by "
                f"'{first.resize}', '{other.name}' on {other.frame_shape} by '{other.resize}'; name encoders of one kind of store"
            )
    readings = [next(iter(info.latents.items())) for info in infos]
    return replace(
        first,
        name="+".join(info.name for info in infos),
        hyperparameters={},
        latents={"+".join(name for name, _ in readings): [sum(int(np.prod(shape)) for _, shape in readings)]},
        validation={},
        weights_sha256="+".join(info.weights_sha256 for info in infos),
        heads=None,
        scale="+".join(info.scale for info in infos),  # type: ignore[arg-type]
    )


def _refuse_sets(parts: Sequence[PictureEncoder]) -> None:
    for part in parts:
        if part.is_set:
            raise UserError(
                f"'{part.reading}' of '{part.info.name}' is a set, whose rows have no order, and does not stand beside other latents; "
                "choose another reading (FOLDER,latents=NAME), or flatten it with --algorithm.set-policy flat"
            )


def _apart(one: PictureEncoder, other: PictureEncoder, why: str) -> UserError:
    return UserError(f"'{one.info.name}' and '{other.info.name}' cannot stand side by side: they {why}")


def _key(number: int, name: str) -> str:
    return f"{number}.{name}"
