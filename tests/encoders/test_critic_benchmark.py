"""The benchmark times what gives the same numbers, and counts multiplications as one does by hand."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "critic.py"


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    with patch.object(sys, "path", list(sys.path)):
        return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def test_a_row_says_what_was_counted_and_timed(benchmark: SimpleNamespace) -> None:
    torch.set_num_threads(1)
    value, both = benchmark.rows("critic_debug", batch=2, seconds=0)
    convolutions = [(27, 8, 64), (72, 8, 32), (72, 8, 16), (72, 16, 8), (256, 32, 1)]
    by_hand = sum(taps * outer * side**2 for taps, outer, side in convolutions) + 32 * 32 + 32
    assert (value[1], value[2]) == ("value", f"{by_hand / 1e6:.1f}")
    decoder = [(32, 32, 1), (432, 16, 4), (216, 8, 8), (144, 8, 16), (144, 8, 32), (99, 16, 64), (144, 1, 64)]
    by_hand += sum(taps * outer * side**2 for taps, outer, side in decoder)
    assert (both[1], both[2]) == ("value and mask", f"{by_hand / 1e6:.1f}")
