"""Memory that a training step frees, kept for the next one."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# mallopt's parameters in glibc's malloc.h, and the environment variables that set them before a program starts
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEPT = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1}
"""Map no block, and never give back what is free at the end of the heap."""
_GIVEN_BACK = {_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}
"""What glibc comes to by itself in a program that frees large blocks."""
_ALLOCATOR_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Have the C library keep what is freed meanwhile for what is needed next: on the CPU with glibc, unless the user has set it.

    glibc gives blocks above 32 MiB back to the system as they are freed. A training step needs the same large activations as the last
    one, and pays for the kernel's clearing of every page of them again: a sixth of a step of `conv_vae`, 32 frames. Until the end the
    process holds on to the most that it has needed. No number changes.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    for setting in _KEPT.items():
        libc.mallopt(*setting)
    try:
        yield
    finally:
        for setting in _GIVEN_BACK.items():
            libc.mallopt(*setting)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _ALLOCATOR_SETTINGS):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
