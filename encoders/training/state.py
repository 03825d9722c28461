"""Everything a run needs to go on: weights, their average, the optimizer, the best so far; saved as `resume.pt`."""

import copy
import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.content import refuse_not_finite, refuse_other_tensors
from encoders.encoder import Encoder
from encoders.training.config import TrainingConfig, ema_decay
from encoders.training.optimizers import load_optimizer, make_optimizer
from encoders.training.parallel import ALONE, Ranks, share_batches, synchronised
from encoders.training.validation import compared_term
from foundation.documents import checked, fitting, schema
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.limits import MOST_INTEGER
from foundation.outside import refuse_irregular
from foundation.ranges import within

RESUME_FILE = "resume.pt"
_FORMAT = 1
REMEDY = "remove the folder to start over"
_WEIGHTS = dict[str, Tensor]
_BEST = schema(step=int, metrics=dict[str, float], weights=_WEIGHTS)
_RESUME = schema(
    {"by_count": bool | None},
    step=int,
    session=int,
    skipped=int,
    seconds=float,
    position=int,
    batches=dict[str, Any],
    model=_WEIGHTS,
    averaged=_WEIGHTS,
    optimizer=dict[str, Any],
    best=_BEST | None,
)


@dataclass
class Best:
    """The averaged weights with the lowest objective, or negative ELBO, on held-out recordings so far."""

    step: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


class TrainingState:
    """The moving parts of a run. `step` counts optimizer steps done, `session` the times the run was started."""

    def __init__(self, model: Encoder, config: TrainingConfig, device: torch.device, ranks: Ranks = ALONE) -> None:
        # channels_last is up to 1.4 times as fast on the CPU, and what tensor cores want
        self.model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ranks.start_equal(self.model)
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        if ranks.size > 1:
            synchronised(self.model, device)
            share_batches(self.model, ranks)
        self.optimizer = make_optimizer(self.model, config)
        self.config = config
        self.device = device
        self.step = 0
        self.session = 1
        self.skipped = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.by_count = True
        """Whether the best weights were measured as now: every mean over what is known, not over batches."""
        self.saved: int | None = None
        """The step of the checkpoint, if there is one."""
        self._buffers = list(self.model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def remember(self) -> None:
        """Note the buffers before a step: a forward pass that is not finite leaves its mark on batch statistics for ever."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    @torch.no_grad()
    def undo(self) -> None:
        """Set the buffers back to what they were when `remember` was called."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)

    def is_finite(self) -> bool:
        """Tell whether all weights and buffers are finite numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in (*self.model.parameters(), *self._buffers))

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights towards the model's; buffers are copied."""
        weight = 1 - ema_decay(self.config, self.step)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), weight)
        for averaged, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            averaged.copy_(current)

    def consider(self, metrics: dict[str, float]) -> None:
        """Keep the averaged weights if `metrics` are the best so far."""
        compared = compared_term(metrics)
        value = metrics[compared]
        if not math.isfinite(value) or (self.best is not None and value >= self.best.metrics[compared]):
            return
        weights = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
        self.best = Best(self.step, metrics, weights)

    def is_out_of_patience(self) -> bool:
        """Tell whether the last `patience` validations were all no better than the best: a function of what a checkpoint holds."""
        patience = self.config.patience
        return patience is not None and self.best is not None and self.step - self.best.step >= patience * self.config.validation_every

    def save(self, folder: Path, position: int, batches: dict[str, Any]) -> None:
        """Write `resume.pt` in one step, with the position of the metrics and of the batches."""
        content = {
            "format": _FORMAT,
            "step": self.step,
            "session": self.session,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "position": position,
            "batches": batches,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": None if self.best is None else vars(self.best),
            "by_count": self.by_count,
        }
        # through memory: torch writes on into a full disk, and its own error hides the disk's
        file = io.BytesIO()
        torch.save(content, file)
        write_atomically(folder / RESUME_FILE, file.getbuffer())
        self.saved = self.step

    def load(self, folder: Path) -> tuple[int, dict[str, Any]]:
        """Go back to `resume.pt`; return the position of the metrics and of the batches."""
        content, path = read_resume(folder, self.device), folder / RESUME_FILE
        with fitting(path, REMEDY):
            self.model.load_state_dict(content["model"])
            self.averaged.load_state_dict(content["averaged"])
            load_optimizer(self.optimizer, content["optimizer"])
            self.step, self.skipped, self.seconds = content["step"], content["skipped"], content["seconds"]
            self.session, self.saved = content["session"] + 1, self.step
            self.best = None if content["best"] is None else Best(**content["best"])
            if self.best is not None:
                refuse_other_tensors(self.best.weights, self.averaged.state_dict(), f"{path}: best.weights.", REMEDY)
                self.best.metrics[compared_term(self.best.metrics)]
            self.by_count = bool(content.get("by_count"))
            return content["position"], content["batches"]


def read_resume(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read `resume.pt`, tensors and plain values only; raise `UserError` where it is damaged or of another kind."""
    path = folder / RESUME_FILE
    refuse_irregular(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, pickle.UnpicklingError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint; {REMEDY}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version; {REMEDY}")
    checked(_RESUME, content, path, REMEDY)
    counts = {name: content[name] for name in ("step", "session", "skipped", "position")}
    try:
        within(0, MOST_INTEGER, **counts, seconds=content["seconds"])
    except UserError as error:
        raise UserError(f"{path}: {error}; {REMEDY}") from error
    best = content["best"] or {}
    for part, weights in (("model", content["model"]), ("averaged", content["averaged"]), ("best.weights", best.get("weights", {}))):
        refuse_not_finite(weights, f"{path}: {part}.", REMEDY)
    return content
