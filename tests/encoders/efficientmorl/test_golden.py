"""The same model as the published one: every number of its own run, in float64, from its weights and noise."""

import math
from typing import Any

import pytest
import torch

from encoders import Batch
from encoders.efficientmorl.distributions import given
from encoders.efficientmorl.model import Trace
from tests.encoders.efficientmorl.golden import Golden, assert_same, gradient_norm, gradients_by_published_name, observed

NOT_COMPUTED = ("image", "mask", "noise/", "out/", "delta_norm")


@pytest.mark.parametrize("name", ["tetrominoes", pytest.param("multi_dsprites", marks=pytest.mark.extended)])
def test_a_training_step_is_the_reference_s_in_every_number_and_gradient(golden: Golden, name: str) -> None:
    case, scalars = golden.case(name), golden.scalars(f"{name}_scalars")
    model, terms, traces = case.model, {}, []
    trace = model.trace
    model.trace = lambda *arguments: traces.append(trace(*arguments)) or traces[0]

    def run() -> Trace:
        terms.update(model.loss(Batch(case.frames[:, None]), 0, given(case.noises)))
        terms["loss"].backward()
        return traces[0]

    found = observed(model, run)
    expected = {key: value for key, value in case.numbers.items() if not key.startswith(NOT_COMPUTED)}
    assert expected.keys() <= found.keys()
    for key, value in expected.items():
        assert_same(found[key], value, key)
    for term, key in (("loss", "total_loss"), ("nll", "nll"), ("kl", "kl")):
        assert terms[term].item() == pytest.approx(scalars["scalars_float64"][key], rel=1e-6)
    moved = torch.stack([terms[f"delta_norm_{index}"] for index in (1, 2, 3)])
    assert_same(moved, case.numbers["delta_norm"], "delta_norm")
    assert gradient_norm(model) == pytest.approx(scalars["grad_global_norm"], rel=1e-5)
    check_gradients(gradients_by_published_name(model, golden.tensors(f"{name}_weights")), scalars)


def check_gradients(found: dict[str, tuple[float, float]], scalars: dict[str, Any]) -> None:
    expected = {key.removeprefix("hvae_networks."): value for key, value in scalars["param_grad"].items()}
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        # a bias that all slots of a soft-max share has none
        tolerance = 1e-6 * scalars["grad_global_norm"] if key == "norm_slots.bias" else 1e-5 * value["l2"]
        assert found[key] == pytest.approx((value["l2"], value["sum"]), rel=1e-5, abs=tolerance), key


def test_sprites_are_seen_and_drawn_as_by_the_reference(golden: Golden) -> None:
    case = golden.case("multi_dsprites")
    with torch.no_grad():
        found = observed(case.model, lambda: case.model.trace(case.frames, given(case.noises), 0, 0))
    expected = {key: value for key, value in case.numbers.items() if key in found and key != "loss/step3"}
    assert len(expected) > 30
    for key, value in expected.items():
        assert_same(found[key], value, key)


@pytest.mark.parametrize("is_learning", [False, pytest.param(True, marks=pytest.mark.extended)])
def test_geco_weighs_the_likelihood_and_learns_as_the_reference_does(golden: Golden, is_learning: bool) -> None:
    case, expected = golden.case("tetrominoes", geco=True, geco_target=-1.224), golden.scalars("tetrominoes_scalars")["geco"]
    model = case.model
    model.geco.beta.fill_(expected["beta_before"])
    model.geco.distance.fill_(expected["C_ema_before"])
    with torch.set_grad_enabled(is_learning):
        terms = model.train().loss(Batch(case.frames[:, None]), expected["step"], given(case.noises))
    assert terms["loss"].item() == pytest.approx(expected["total_loss"], rel=1e-6)
    assert float(terms["nll"]) == pytest.approx(expected["nll_out"], rel=1e-6)
    assert float(terms["kl"]) == pytest.approx(expected["kl_out"], rel=1e-6)
    multiplier = math.log1p(math.exp(expected["beta_before"]))
    losses = [float(terms[f"kl_{index}"]) - multiplier * expected["C_ema_before"] for index in range(3)]
    assert losses == pytest.approx(expected["loss_step"], rel=1e-6)
    assert float(model.geco.distance) == pytest.approx(expected["C_ema_after"], rel=1e-6)
    assert float(model.geco.beta) == pytest.approx(expected["beta_after"], rel=1e-9)
    if is_learning:
        terms["loss"].backward()
        assert gradient_norm(model) == pytest.approx(expected["grad_global_norm"], rel=1e-5)
