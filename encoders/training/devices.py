"""Where to compute: `auto`, `cpu` or `cuda`, and with how many threads."""

import os

import torch

from foundation.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one. Raises `UserError` for CUDA where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("device 'cuda': PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"no device '{name}': use auto, cpu or cuda") from error


def available_threads() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
