"""Where to compute: `auto`, `cpu` or `cuda`, with how many threads and in which precision."""

import os
import re
from typing import Literal

import torch

from foundation.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]


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
