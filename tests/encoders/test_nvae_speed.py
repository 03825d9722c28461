"""What NVAE computes in a way of its own, for speed, is what torch and autograd compute; what is timed are the presets."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders import make_encoder
from encoders.nvae.depthwise import DepthwiseConvolution, depthwise_convolution
from encoders.nvae.hyperparameters import NVAEHyperparameters
from encoders.nvae.layers import DoublingSkip, PlainConv2d, WeightNormConv2d
from encoders.nvae.mixture import MixtureLikelihood
from encoders.nvae.regularisation import bilinear, kernels
from foundation.presets import build, read_preset

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "nvae.py"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "size"), [(3, (6, 8)), (5, (8, 8)), (11, (4, 6)), (1, (3, 3))])
def test_a_depthwise_convolution_has_torch_s_values_and_gradients(kernel: int, size: tuple[int, int]) -> None:
    x, weight = drawn(3, 4, *size).requires_grad_(), drawn(4, 1, kernel, kernel, seed=1).requires_grad_()
    from_above = drawn(3, 4, *size, seed=2)
    plain = F.conv2d(x, weight, padding=kernel // 2, groups=4)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours = DepthwiseConvolution.apply(x.contiguous(memory_format=layout), weight)
        torch.testing.assert_close(ours, plain)
        found = torch.autograd.grad(ours, (x, weight), from_above)
        torch.testing.assert_close(found, torch.autograd.grad(plain, (x, weight), from_above, retain_graph=True))


def test_a_depthwise_convolution_s_gradients_in_bfloat16_are_those_of_float32_but_for_rounding() -> None:
    x, weight, from_above = drawn(4, 16, 8, 8).float(), drawn(16, 1, 5, 5, seed=1).float(), drawn(4, 16, 8, 8, seed=2).float()
    x, weight = (part.contiguous(memory_format=torch.channels_last).requires_grad_() for part in (x, weight))
    full = torch.autograd.grad(depthwise_convolution(x, weight), (x, weight), from_above)
    with torch.autocast("cpu", torch.bfloat16):
        low = depthwise_convolution(x, weight)
    assert low.dtype == torch.bfloat16
    for found, wanted in zip(torch.autograd.grad(low, (x, weight), from_above.bfloat16()), full, strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_a_frozen_kernel_passes_the_gradient_on_to_what_comes_before() -> None:
    x, weight = drawn(2, 3, 4, 4).requires_grad_(), drawn(3, 1, 3, 3, seed=1)
    DepthwiseConvolution.apply(x, weight).sum().backward()
    wanted = torch.autograd.grad(F.conv2d(x, weight, padding=1, groups=3).sum(), x)[0]
    torch.testing.assert_close(x.grad, wanted)


@pytest.mark.parametrize("bits", [8, 5])
def test_the_mixture_s_gradient_is_that_of_its_log_likelihood(bits: int) -> None:
    levels = torch.randint(0, 2**bits, (2, 3, 2, 3), generator=torch.Generator().manual_seed(1))
    levels[0, :, 0, 0], levels[1, :, 1, 1], levels[1, 0, 0, 2] = 0, 2**bits - 1, 0
    x = levels.double() / (2**bits - 1) * 2 - 1
    parameters = drawn(2, 30, 2, 3).mul_(1.5).requires_grad_()

    def log_prob(at: Tensor) -> Tensor:
        return MixtureLikelihood.apply(at, x, 1 / (2**bits - 1))

    assert torch.autograd.gradcheck(log_prob, parameters)
    with torch.no_grad():
        assert torch.equal(log_prob(parameters), log_prob(parameters.contiguous(memory_format=torch.channels_last)))


def test_a_scale_beyond_its_bounds_gets_no_gradient() -> None:
    parameters = drawn(1, 20, 1, 1)
    scales = parameters[:, 2:].unflatten(1, (3, 3, 2))[:, :, 1]
    scales[:, 0], scales[:, 1] = -9, 25
    MixtureLikelihood.apply(parameters.requires_grad_(), torch.zeros(1, 3, 1, 1).double(), 1 / 255).sum().backward()
    to_scales = parameters.grad[:, 2:].unflatten(1, (3, 3, 2))[:, :, 1]
    assert not to_scales[:, :2].any()
    assert to_scales[:, 2].all()


def test_spectral_norms_have_autograd_s_gradients_one_by_one_and_together() -> None:
    hidden = torch.tensor([[1.0, 1, 0], [0, 1, 1]])[:, :, None, None]
    convolutions = [WeightNormConv2d(3, 2, 1, mask=mask).double() for mask in (None, hidden, None)] + [PlainConv2d(3, 2, 1).double()]
    with torch.no_grad():
        convolutions[2].weight[1] = 0
    parameters = [parameter for part in convolutions for name, parameter in part.named_parameters() if name != "bias"]
    left, right = F.normalize(drawn(4, 2), dim=1), F.normalize(drawn(4, 3, seed=1), dim=1)
    for size in (1, 4):
        batches = [slice(start, start + size) for start in range(0, 4, size)]
        ours = torch.cat([bilinear(convolutions[at], left[at], right[at], 0) for at in batches])
        plain = torch.stack([u @ kernels(part).flatten(1) @ r for part, u, r in zip(convolutions, left, right, strict=True)])
        torch.testing.assert_close(ours, plain)
        found, wanted = (torch.autograd.grad(norms, parameters, drawn(4, seed=2)) for norms in (ours, plain))
        torch.testing.assert_close(found, wanted)


def test_spectral_norms_are_the_same_one_by_one_and_together() -> None:
    convolutions = [WeightNormConv2d(3, 4, 3).double() for _ in range(3)]
    left, right = F.normalize(drawn(3, 4), dim=1), F.normalize(drawn(3, 27, seed=1), dim=1)
    lefts, rights = left.clone(), right.clone()
    alone = torch.cat([bilinear([part], lefts[at, None], rights[at, None], 3) for at, part in enumerate(convolutions)])
    torch.testing.assert_close(bilinear(convolutions, left, right, 3), alone)
    torch.testing.assert_close((left, right), (lefts, rights))
    exact = [torch.linalg.svdvals(kernels(part).flatten(1))[0] for part in convolutions]
    torch.testing.assert_close(bilinear(convolutions, left, right, 200), torch.stack(exact))


def test_doubling_after_the_convolution_is_doubling_before_it() -> None:
    skip, x = DoublingSkip(4, 2).double(), drawn(2, 4, 3, 5)
    grown = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(skip(x), F.conv2d(grown, skip.convolution.kernels()))


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def test_the_models_that_are_timed_are_the_presets(benchmark: SimpleNamespace) -> None:
    architecture = set(vars(NVAEHyperparameters())) - {"kl_warmup_steps", "kl_constant_steps", "regularisation_start", "kl_minimum"}
    for name, timed in benchmark.PRESETS.items():
        preset = build(NVAEHyperparameters, read_preset("encoder", name)["model"])
        assert {key: getattr(timed, key) for key in architecture} == {key: getattr(preset, key) for key in architecture}, name


def test_the_benchmark_reports_every_way_and_reading(benchmark: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"frame_shape": (16, 16, 3), "encoder_channels": 4, "decoder_channels": 4}
    h = NVAEHyperparameters(**sizes, scales=2, groups=1, mixtures=2, regularisation=0.1)
    monkeypatch.setitem(benchmark.PRESETS, "nvae_small", h)
    arguments = ["--presets", "nvae_small", "--batch", "2", "--steps", "1", "--report", str(tmp_path / "r.md")]
    monkeypatch.setattr(sys, "argv", ["nvae.py", *arguments])
    benchmark.main()
    rows = [line.split(" | ") for line in (tmp_path / "r.md").read_text().splitlines() if line.startswith("| nvae_small")]
    assert [len(row) for row in rows] == [9, 5]
    assert all(float(figure.strip(" |%").replace(",", "")) > 0 for figure in [*rows[0][1:6], *rows[1][1:]])


def test_a_way_leaves_the_model_as_it_was(benchmark: SimpleNamespace) -> None:
    model = make_encoder("nvae_debug", frame_shape=[16, 16, 3], blocks=1, checkpoint_activations=True)
    norms = model.spectral_norms
    with benchmark._as(model, benchmark.WAYS["unregularised"]):
        assert model.spectral_norms is None
        assert not any(getattr(part, "checkpointed", False) for part in model.modules())
    assert model.spectral_norms is norms
    assert all(part.checkpointed for part in model.modules() if hasattr(part, "checkpointed"))
