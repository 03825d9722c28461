"""Where to compute: `auto`, `cpu` or `cuda`, with how many threads, in which precision and with which other processes."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from encoders.training.config import Precision
from encoders.training.parallel import ALONE, Ranks
from foundation.errors import UserError
from foundation.limits import MOST_THREADS, refuse_more

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
    """auto: bfloat16 autocast on CUDA and float32 on the CPU; bfloat16-anyway: on a CPU that is slower in it too. Validation is always in
    float32."""
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


def choose_precision(name: Precision, device: torch.device) -> Precision:
    """Return "auto", "float32" or "bfloat16"; raise `UserError` for bfloat16 on a CPU that is slower in it, unless `name` insists."""
    if name == "bfloat16" and device.type == "cpu" and (slower := bfloat16_slowdown()) > 1:
        raise UserError(
            f"--precision bfloat16: this CPU has no bfloat16 units, training would take about {slower} times as long as in float32; "
            "leave the option out, or give --precision bfloat16-anyway"
        )
    return "bfloat16" if name == "bfloat16-anyway" else name


def bfloat16_slowdown() -> int:
    """Return about how many times as long a training step takes on this CPU in bfloat16 as in float32; 1 where it is no longer.

    Measured in docs/encoders.md. Without AVX-512, or what corresponds to it, oneDNN has no kernels for bfloat16, and PyTorch's own stand
    in. With AVX-512 alone it says that it has them, and converts in software.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return 10
    units = torch.cpu.get_capabilities()
    converts = units["architecture"] == "x86_64" and not (units["avx512_bf16"] or units["amx_bf16"])
    return 2 if converts else 1


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which products and convolutions are of bfloat16: on CUDA by default, elsewhere where asked for."""
    enabled = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def check_threads(threads: int | None) -> None:
    """Raise `UserError` for a number of threads that is none."""
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: must be 1 or more")
    refuse_more("--threads", threads or 1, MOST_THREADS)


def available_threads() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
