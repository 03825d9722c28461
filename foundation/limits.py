"""What this machine has, and what no machine has: sizes are refused before anything of that size is made."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from foundation.errors import UserError, in_one_line

MOST_THREADS = 1024
MOST_RUNS = 100_000
"""Seeds a row, or trials: each is a folder."""
MOST_INTEGER = 2**63 - 1
"""The largest that torch, numpy and JSON's readers take."""


def free_memory() -> int | None:
    """Return the bytes of memory that can be had without swapping, where the system tells (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def installed_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_more(name: str, value: int, most: int) -> None:
    """Raise `UserError` for a setting whose value is above what this machine, or any, has."""
    if value > most:
        raise UserError(f"{name} {value:,}: the limit is {most:,}; give fewer")


def refuse_odd_numbers(value: Any, name: str = "") -> None:
    """Raise `UserError` for the first number in options (dataclasses, mappings, lists) that is none, infinite, or beyond 64 bits."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            refuse_odd_numbers(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    elif isinstance(value, dict):
        for key, one in value.items():
            refuse_odd_numbers(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for one in value:
            refuse_odd_numbers(one, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"'{name}' must be a finite number, got {value}")
    elif isinstance(value, int) and abs(value) > MOST_INTEGER:
        raise UserError(f"'{name}' must be a number of at most 64 bits, got {in_one_line(str(value)[:40])} ...")
