"""Adam and Adamax do what their papers say, and weight decay spares what it would only harm."""

from typing import Any

import pytest
import torch

from encoders import Encoder, make_encoder
from encoders.training.config import TrainingConfig
from encoders.training.optimizers import make_optimizer, undecayed_names

RATE, DECAY, EPSILON = 0.1, 0.5, 1e-3


class Two(Encoder):
    """A weight, a bias and a learned constant."""

    undecayed = frozenset({"constant"})

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3, 2))
        self.bias = torch.nn.Parameter(torch.randn(3))
        self.constant = torch.nn.Parameter(torch.randn(2, 2))


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(learning_rate=RATE, weight_decay=DECAY, adam_epsilon=EPSILON, **changes)


def stepped(model: Encoder, gradients: list[float], **changes: Any) -> Encoder:
    """Return the model after a step for each of the gradients, which all numbers share."""
    optimizer = make_optimizer(model, config(**changes))
    for gradient in gradients:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    return model


def adamax(x: torch.Tensor, gradients: list[float], decay: float = 0.0, shrink: float = 0.0) -> torch.Tensor:
    """Algorithm 2 of Kingma and Ba, with decay in the gradient or beside the step."""
    mean, largest = torch.zeros_like(x), torch.zeros_like(x)
    for step, gradient in enumerate(gradients, 1):
        x = x * (1 - RATE * shrink)
        g = gradient + decay * x
        mean = 0.9 * mean + 0.1 * g
        largest = torch.maximum(0.999 * largest, g.abs() + EPSILON)
        x = x - RATE / (1 - 0.9**step) * mean / largest
    return x


def test_adamax_takes_the_steps_of_its_paper_with_decay_in_the_gradient_or_beside_it() -> None:
    before, gradients = Two(), [1.0, -3.0, 0.5]
    coupled = stepped(Two(), gradients, optimizer="adamax", weight_decay_kind="coupled")
    torch.testing.assert_close(coupled.weight, adamax(before.weight, gradients, decay=DECAY))
    decoupled = stepped(Two(), gradients, optimizer="adamax")
    torch.testing.assert_close(decoupled.weight, adamax(before.weight, gradients, shrink=DECAY))
    for model in (coupled, decoupled):
        torch.testing.assert_close(model.bias, adamax(before.bias, gradients))
        torch.testing.assert_close(model.constant, adamax(before.constant, gradients))


def test_adam_has_its_decay_beside_the_step_unless_it_is_coupled() -> None:
    before = Two()
    shrunk = stepped(Two(), [0.0])
    torch.testing.assert_close(shrunk.weight, before.weight * (1 - RATE * DECAY))
    coupled = stepped(Two(), [0.0], weight_decay_kind="coupled")
    g = DECAY * before.weight
    torch.testing.assert_close(coupled.weight, before.weight - RATE * g / (g.abs() + EPSILON))


@pytest.mark.parametrize("optimizer", ["adam", "adamax"])
@pytest.mark.parametrize("kind", ["coupled", "decoupled"])
def test_biases_and_learned_constants_are_left_alone_unless_everything_is_to_decay(optimizer: Any, kind: Any) -> None:
    before = Two()
    spared = stepped(Two(), [0.0], optimizer=optimizer, weight_decay_kind=kind)
    assert torch.equal(spared.bias, before.bias)
    assert torch.equal(spared.constant, before.constant)
    assert (spared.weight.abs() < before.weight.abs()).all()
    all_decay = stepped(Two(), [0.0], optimizer=optimizer, weight_decay_kind=kind, weight_decay_everywhere=True)
    assert (all_decay.bias.abs() < before.bias.abs()).all()
    assert (all_decay.constant.abs() < before.constant.abs()).all()


def test_of_an_nvae_only_kernels_and_matrices_decay() -> None:
    model = make_encoder("nvae_debug")
    spared = undecayed_names(model)
    assert {"start", "stem.log_gain", "stem.bias"} <= spared
    norms = {name for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    assert norms
    assert {f"{name}.weight" for name in norms} <= spared
    assert "stem.weight" not in spared
    assert all(model.get_parameter(name).ndim in (2, 4) for name, _ in model.named_parameters() if name not in spared)


def test_a_checkpoint_of_plain_adamw_without_decay_still_fits() -> None:
    model = Two()
    plain = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    plain.step()
    optimizer = make_optimizer(model, TrainingConfig())
    optimizer.load_state_dict(plain.state_dict())
    assert len(optimizer.state) == 3
    assert torch.equal(optimizer.state[model.bias]["exp_avg"], plain.state[model.bias]["exp_avg"])
