"""The bare calls that encoders are timed against are all of a step's convolutions and matrix products, and nothing else."""

import runpy
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from encoders import make_encoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    path = list(sys.path)
    try:
        return SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "encoders.py")))
    finally:
        sys.path[:] = path


def named(calls: list) -> Counter:
    return Counter(call.operator.overloadpacket.__name__ for call in calls)


def test_a_step_asks_for_each_layer_once_forth_and_once_back(benchmark: SimpleNamespace) -> None:
    one = benchmark.Measured("conv_vae_tiny", CPU)
    layers = sum(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in one.model.modules())
    found = named(benchmark.watched(one.step(2)))
    assert found["convolution"] == found["convolution_backward"] == layers == 6
    # two dense layers: a product forth, and back one for the input and one for the weights
    assert found["addmm"] + found["mm"] == 6


def test_encoding_asks_for_as_many_multiplications_as_the_layers_have(benchmark: SimpleNamespace) -> None:
    one = benchmark.Measured("conv_vae_small", CPU)
    calls = benchmark.watched(one.encoding(torch.no_grad))
    counted = 0
    for call in calls:
        weight = next(part for part in reversed(call.arguments) if isinstance(part, benchmark.Spec) and len(part.shape) in (2, 4))
        side = {192: 4, 96: 8, 48: 16}[weight.shape[0]] if len(weight.shape) == 4 else 1
        counted += torch.Size(weight.shape).numel() * side**2
    sizes = [(48 * 3 * 4 * 4, 16), (96 * 48 * 4 * 4, 8), (192 * 96 * 4 * 4, 4), (192 * 4 * 4 * 128, 1)]
    assert counted == sum(weights * side**2 for weights, side in sizes)
    assert len(calls) == len(sizes)


@pytest.mark.parametrize("preset", ["debug", "cwvae_debug", "nvae_debug", "heads_debug"])
def test_the_bare_calls_run_again_and_again_and_are_not_watched_twice(benchmark: SimpleNamespace, preset: str) -> None:
    one = benchmark.Measured(preset, CPU)
    calls = benchmark.watched(one.step(2))
    again = benchmark.watched(benchmark.bare(calls, CPU))
    assert named(again) == named(calls)
    assert [call.arguments for call in again] == [call.arguments for call in calls]


def given(batch: int | None, seconds: float) -> SimpleNamespace:
    return SimpleNamespace(batch=batch, seconds=seconds, device="cpu", threads=1)


def test_a_batch_is_halved_until_a_step_fits_into_the_time(benchmark: SimpleNamespace) -> None:
    one = benchmark.Measured("debug", CPU)
    assert [one.clips(options) for options in (given(5, 1.0), given(None, 1000.0), given(None, 1e-9))] == [5, one.config.batch_size, 2]


def test_the_table_has_a_row_for_a_model_that_is_trained_and_for_one_that_is_computed(
    benchmark: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--presets", "debug", "pca", "--seconds", "0.1", "--report", str(tmp_path / "table.md")]
    monkeypatch.setattr(sys, "argv", ["encoders.py", *options])
    benchmark.main()
    rows = [line.split(" | ") for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith(("| debug", "| pca"))]
    assert [row[0] for row in rows] == ["| debug", "| pca"]
    trained, computed = rows
    assert trained[1] in ("8 x 1", "4 x 1 (of 8)", "2 x 1 (of 8)")
    assert float(trained[3]) > 0
    assert float(trained[4]) == pytest.approx(float(trained[2]) / float(trained[3]), abs=0.02)
    assert computed[1:6] == ["-"] * 5
    assert make_encoder("pca").latents.keys() == {"mean"}
