"""The loop that the Clockwork VAE is timed against computes the same, and the sizes timed are the presets'."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from encoders import Batch, make_encoder
from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "cwvae.py")))


def test_the_loop_has_the_loss_and_gradients_of_the_scan(benchmark: SimpleNamespace) -> None:
    sizes = {"frame_shape": (16, 16, 3), "encoder_kernels": (4, 4), "decoder_kernels": (6, 6), "clip_length": 11, "factor": 2}
    h = ClockworkVAEHyperparameters(**sizes, stochastic=3, deterministic=5, hidden=6, filters=2, dense_units=7)
    torch.manual_seed(0)
    looped = benchmark.LoopedClockworkVAE(h).double()
    frames, noise = torch.rand(2, 11, 3, 16, 16).double(), looped.draw_noise(2, 11)
    found = []
    for unroll in (looped.unroll, super(benchmark.LoopedClockworkVAE, looped).unroll):
        looped.unroll = unroll
        looped.zero_grad()
        loss = looped.loss(Batch(frames), 0, noise)["loss"]
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in looped.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_sizes_that_are_timed_are_the_presets(benchmark: SimpleNamespace) -> None:
    for name, hyperparameters in benchmark.PRESETS.items():
        assert make_encoder(name).hyperparameters == hyperparameters
