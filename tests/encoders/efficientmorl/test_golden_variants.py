"""Every option of the published model, on small pictures, gives its numbers too; so does Slot Attention."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import Batch
from encoders.efficientmorl.distributions import given
from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters, SlotAttentionHyperparameters
from encoders.efficientmorl.model import EfficientMORL
from encoders.efficientmorl.slot_attention import SlotAttention
from tests.encoders.efficientmorl.golden import Golden, assert_same, gradient_norm, pictures, rounded, with_weights

BASE: dict[str, Any] = {"frame_shape": (20, 20, 3), "slots": 3, "slot_size": 16, "decoder": "small", "sigma": rounded(0.3)}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "gmm": {"likelihood": "mixture", "sigma": rounded(0.1)},
    "reversed": {"prior": "reversed"},
    "bottom_up": {"prior": "bottom_up"},
    "single_gru": {"dual_gru": False},
    "layers1": {"layers": 1},
    "layers0": {"layers": 0, "encode_refinements": 1, "masks_from": "decoder"},
    "iters0": {"refinement_curriculum": ((-1, 0),)},
    "iters1": {"refinement_curriculum": ((-1, 1),)},
    "kl_beta4": {"beta": 4.0},
    "iodine": {"decoder": "iodine", "frame_shape": (16, 16, 3)},
    "big": {"decoder": "big", "frame_shape": (96, 96, 3), "slots": 2},
}


def weights_of(golden: Golden, variant: str) -> dict[str, Tensor]:
    """Return the weights that all share, some replaced by the variant's own."""
    stored = [(*name.split("/", 1), tensor) for name, tensor in golden.tensors("variants_weights").items()]
    found = {name: tensor for part in ("shared", variant) for whose, name, tensor in stored if whose == part}
    if variant == "big":
        kernel = found["hvae_networks.image_decoder.decode.2.weight"]
        found |= {f"hvae_networks.image_decoder.decode.{layer}.weight": kernel for layer in (4, 6, 8)}
    return found


def frames_of(golden: Golden, model: EfficientMORL | SlotAttention) -> Tensor:
    height, width, _ = model.frame_shape
    return pictures(golden.tensors("variants_forward")["image_u8"][:, :height, :width])


@pytest.mark.parametrize("variant", [*(name for name in VARIANTS if name != "big"), pytest.param("big", marks=pytest.mark.extended)])
def test_a_variant_is_the_reference_s(golden: Golden, variant: str) -> None:
    scalars = golden.scalars("variants_scalars")[variant]
    stored = golden.tensors("variants_forward")
    numbers = {name.partition("/")[2]: tensor for name, tensor in stored.items() if name.startswith(f"{variant}/")}
    model = with_weights(EfficientMORL(EfficientMORLHyperparameters(**{**BASE, **VARIANTS[variant]})), weights_of(golden, variant))
    noises = [numbers[name].double() for name in sorted(numbers) if name.startswith("noise")]
    traces, trace = [], model.trace
    model.trace = lambda *arguments: traces.append(trace(*arguments)) or traces[0]
    terms = model.loss(Batch(frames_of(golden, model)[:, None]), 0, given(noises))
    terms["loss"].backward()
    assert terms["loss"].item() == pytest.approx(scalars["total_loss"], rel=1e-6)
    # a difference of numbers a hundred times as large, whose deviation is a float32 there
    assert terms["nll"].item() == pytest.approx(scalars["nll"], rel=1e-6, abs=1e-4)
    assert terms["kl"].item() == pytest.approx(scalars["kl"], rel=1e-6)
    assert gradient_norm(model) == pytest.approx(scalars["grad_global_norm"], rel=1e-6)
    assert sum(parameter.numel() for parameter in model.parameters()) + 2 == scalars["parameters"]
    (found,) = traces
    for index, step in enumerate(found.steps):
        torch.testing.assert_close(step.nll_N, numbers[f"nll{index}"].double(), rtol=1e-6, atol=1e-4)
        assert_same(step.drawn.colours.mean((-2, -1)), numbers[f"decode{index}/rgb_mean"], "colours")
        assert_same(step.drawn.logits, numbers[f"decode{index}/mask_logit"], "mask logits")
        if f"lambda{index}" in numbers:
            assert_same(torch.cat(step.slots, -1).detach(), numbers[f"lambda{index}"], "lambda")
    layers = [q.kl(p) for q, p in zip(found.posteriors, found.priors, strict=False)]
    # in the order in which the reference computes them
    ordered = [*(layers if variant == "bottom_up" else layers[::-1]), *(step.kl_NKD for step in found.steps[1:])]
    assert f"kl{len(ordered)}" not in numbers
    for index, kl in enumerate(ordered):
        assert_same(kl.sum(-1).detach(), numbers[f"kl{index}"], "kl")


def test_slot_attention_is_the_reference_s(golden: Golden) -> None:
    scalars, numbers = golden.scalars("variants_scalars")["slot_attention"], golden.tensors("variants_forward")
    model = with_weights(SlotAttention(SlotAttentionHyperparameters(**BASE)), weights_of(golden, "slot_attention"))
    x_N3HW, noise = frames_of(golden, model), numbers["slot_attention/noise0"].double()
    loss = model.loss(Batch(x_N3HW[:, None]), 0, given([noise]))["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(scalars["total_loss"], rel=1e-6)
    assert gradient_norm(model) == pytest.approx(scalars["grad_global_norm"], rel=1e-6)
    assert sum(parameter.numel() for parameter in model.parameters()) == scalars["parameters"]
    with torch.no_grad():
        slots, _ = model.final_slots(x_N3HW, model.first_slots(2, given([noise])))
        drawn = model.draw(slots)
    assert_same(slots, numbers["slot_attention/slots"], "slots")
    assert_same(drawn.logits.log_softmax(1), numbers["slot_attention/mask_log_prob"], "masks")
    assert_same(drawn.colours.mean((-2, -1)), numbers["slot_attention/rgb_mean"], "colours")


def test_the_start_values_draw_grey_whatever_the_seed(golden: Golden) -> None:
    """The reference's own first losses at five seeds: all colours 0.5, and a spread of KLs that ours must be within."""
    stored = golden.scalars("tetrominoes_scalars")["default_init_5_seeds"]
    rows = torch.tensor(stored["rows"])
    case = golden.case("tetrominoes")
    h, x_N3HW = case.model.hyperparameters, case.frames.float()
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        with torch.no_grad():
            terms = EfficientMORL(h).loss(Batch(x_N3HW[:, None]), 0)
        found.append([float(terms[name]) for name in ("loss", "nll", "kl", "delta_norm_1", "delta_norm_2", "delta_norm_3")])
    assert [row[1] for row in found] == pytest.approx([202.95] * 2, abs=1e-3)
    for name, ours, theirs in zip(stored["columns"], torch.tensor(found).mean(0), rows.mean(0), strict=True):
        assert math.isclose(float(ours), float(theirs), rel_tol=0.25), name
