"""What times depend on: the processor or the GPU."""

import os
from pathlib import Path


def machine(device: str) -> str:
    """Name the GPU, where `device` is one, or the processor and its number of cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name()
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "CPU"
