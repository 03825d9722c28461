"""Where to compute: `auto`, `cpu` or `cuda`, with how many threads, in which precision and with which other processes."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from encoders.training.config import Precision
from encoders.training.parallel import ALONE, Ranks
from foundation.errors import UserError

AskedToStop = Callable[[], int | None]


def _nobody_asks() -> int | None:
    return None


@dataclass(frozen=True)
class Placement:
    """Where and how the training loop computes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int | None = None
    """None: those of the run so far, or an equal share of the CPUs."""
    compiled: bool = False
    """Have torch.compile fuse a recurrent model's scan."""
    precision: Precision = "auto"
    """auto: bfloat16 autocast on CUDA and float32 on the CPU. Validation is always in float32."""
    ranks: Ranks = ALONE
    """This process among those that train together."""
    asked_to_stop: AskedToStop = _nobody_asks
    """Returns a signal's number once the run is to stop, for processes that no signal reaches."""


HERE = Placement()
"""This process alone, on the best device there is."""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one. Raises `UserError` for CUDA where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("device 'cuda': PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"no device '{name}': use auto, cpu or cuda")
    device = torch.device(name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(f"device '{name}': the CUDA devices here end at cuda:{torch.cuda.device_count() - 1}")
    return device


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which products and convolutions are of bfloat16: on CUDA by default, elsewhere where asked for."""
    enabled = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def check_threads(threads: int | None) -> None:
    """Raise `UserError` for a number of threads that is none."""
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: must be 1 or more")


def available_threads() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
