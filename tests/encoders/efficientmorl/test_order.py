"""Going back through each decoding at once is the straightforward order in fewer sums: the same loss, gradients and slots."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from encoders import Batch, make_encoder
from encoders.efficientmorl.decoders import make_decoder
from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters
from encoders.efficientmorl.model import EfficientMORL

SMALL: dict[str, Any] = {"frame_shape": (16, 16, 3), "slots": 3, "slot_size": 8, "encoder_channels": 8, "decoder_channels": 6}
GECO: dict[str, Any] = {"geco": True, "geco_target": -1.0, "geco_warmup_steps": 0}


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    path = list(sys.path)
    try:
        return SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "efficientmorl.py")))
    finally:
        sys.path[:] = path


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "iodine"},
        {"decoder": "small", **GECO},
        {"decoder": "big", "likelihood": "mixture", "prior": "bottom_up"},
        {"decoder": "small", "beta": 0.0, "loss_weights": "paper", "refinement_curriculum": ((-1, 1),)},
    ],
)
def test_loss_and_gradients_are_those_of_the_straightforward_order(benchmark: SimpleNamespace, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    h = EfficientMORLHyperparameters(**SMALL, **options)
    models = [EfficientMORL(h), benchmark.StraightforwardEfficientMORL(h)]
    for parameter in models[0].parameters():
        # the start values are so small that nearly all gradients would be of the last layer
        nn.init.normal_(parameter, std=0.2)
    models[1].load_state_dict(models[0].state_dict())
    frames, found = torch.rand(4, 1, 3, 16, 16), []
    for model in models:
        torch.manual_seed(1)
        terms = model.loss(Batch(frames), 0)
        terms["loss"].backward()
        gradients = torch.cat([(torch.zeros(1) if one.grad is None else one.grad).flatten() for one in model.parameters()])
        found.append((torch.stack([term.detach() for term in terms.values()]), gradients))
    (terms, gradients), (others, other_gradients) = found
    torch.testing.assert_close(terms, others, rtol=1e-5, atol=1e-5)
    assert (gradients - other_gradients).abs().max() <= 1e-6 * gradients.abs().max()
    assert gradients.abs().max() > 0


def test_frames_that_are_decoded_one_after_the_other_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = EfficientMORL(EfficientMORLHyperparameters(**SMALL, decoder="small")).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    frames, found = torch.rand(5, 1, 3, 16, 16).double(), []
    for at_once in (5, 2, 1):
        monkeypatch.setattr("encoders.efficientmorl.model._CACHED", at_once * 3 * 6 * 16 * 16)
        assert model.frames_at_once("cpu", 5) == at_once
        torch.manual_seed(1)
        model.zero_grad()
        model.loss(Batch(frames), 0)["loss"].backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_an_upstream_factor_reaches_the_decoder_too() -> None:
    """A head that is weighted beside the loss, or a mean over several processes, scales gradients that are known already."""
    model = make_encoder("efficientmorl_debug", frame_shape=[16, 16, 3])
    found = []
    for factor in (1.0, 3.0):
        torch.manual_seed(0)
        model.zero_grad()
        (factor * model.loss(Batch(torch.ones(2, 1, 3, 16, 16) / 3), 0)["loss"]).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, three in zip(*found, strict=True):
        torch.testing.assert_close(3 * one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["iodine", "small", "big"])
def test_a_decoder_convolves_the_slot_laid_out_with_its_ramp(kind: str) -> None:
    """The plain formula, with odd and uneven sizes where the decoder makes them."""
    torch.manual_seed(0)
    height, width = (32, 16) if kind == "big" else (7, 10)
    decoder = make_decoder(kind, 5, 6, (height, width)).double()
    z_MD = torch.randn(3, 5, dtype=torch.float64)
    rows, columns = {"iodine": (17, 20), "small": (13, 16), "big": (2, 1)}[kind]
    ramp = torch.zeros(rows, columns, 4, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            down, right = row / max(rows - 1, 1), column / max(columns - 1, 1)
            ramp[row, column] = torch.tensor([1 - down, down, right, 1 - right])
    x = z_MD[:, :, None, None] + F.linear(ramp, decoder.position.weight, decoder.position.bias).permute(2, 0, 1)
    for layer in decoder.layers:
        x = layer(x)
    colours, logits = decoder(z_MD)
    assert logits.shape == (3, height, width)
    torch.testing.assert_close(colours, x[:, :3].sigmoid())
    torch.testing.assert_close(logits, x[:, 3])


def test_bfloat16_leaves_the_loss_and_the_direction_of_the_gradient() -> None:
    torch.manual_seed(0)
    model = EfficientMORL(EfficientMORLHyperparameters(**SMALL, decoder="small"))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    frames, found = torch.rand(4, 1, 3, 16, 16), []
    for is_mixed in (False, True):
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            loss = model.loss(Batch(frames), 0)["loss"]
        loss.backward()
        assert loss.dtype == torch.float32
        found.append((loss.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    (loss, gradient), (other_loss, other) = found
    assert other_loss == pytest.approx(loss, rel=1e-2)
    assert F.cosine_similarity(gradient, other, dim=0) > 0.99
