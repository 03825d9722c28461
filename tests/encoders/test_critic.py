"""A critic learns values, then masks from values alone, without what the reference has wrong."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders import Batch, Generates, GivesMasks, GivesValue, HasFeatureMaps, check_encoder, make_encoder
from encoders.critic.hyperparameters import CriticHyperparameters
from encoders.critic.model import LABEL, Critic
from encoders.critic.networks import OneChannelConvolution
from encoders.critic.objects import coarse, objects
from encoders.critic.swapping import draw_pairs, norm, shifted_sideways, swapped
from foundation.errors import UserError

NAN = float("nan")
SMALL = {"frame_shape": (32, 32, 3), "value_steps": 10, "swapped_frames": 6, "shift": 3}


def critic(**options: object) -> Critic:
    torch.manual_seed(0)
    return Critic(CriticHyperparameters(**{**SMALL, **options}))


def batch(count: int = 12, to_come: list[float] | None = None) -> Batch:
    torch.manual_seed(1)
    known = torch.linspace(0, 1, count) if to_come is None else torch.tensor(to_come)
    return Batch(torch.rand(count, 1, 3, 32, 32), None, {LABEL: known[:, None]})


def certain(model: Critic) -> Critic:
    """Have the critic think that bright frames are worth 1 and dark ones nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.abs() / 10)
        model.value_head.output.weight.mul_(1e6)
    middle = model._logits(torch.full((1, 3, 32, 32), 0.5))
    with torch.no_grad():
        model.value_head.output.bias.sub_(middle)
    return model


def bright_and_dark() -> Batch:
    levels = torch.tensor([0.9] * 3 + [0.1] * 9)
    return Batch(levels.view(-1, 1, 1, 1, 1).expand(-1, 1, 3, 32, 32), None, {LABEL: levels[:, None].clone()})


@pytest.mark.parametrize(
    "options",
    [{}, {"separate": True}, {"factor": 2, "frame_shape": (32, 48, 3)}, {"value_loss": "bce", "binarise_above": 0.3}, {"inject": False}],
)
def test_a_critic_keeps_the_contract(options: dict) -> None:
    check_encoder(critic(**options), {LABEL: torch.tensor([[0.9], [0.1], [NAN]])})


def test_what_a_critic_offers() -> None:
    known = {Generates, GivesValue, GivesMasks, HasFeatureMaps}
    assert {protocol for protocol in known if isinstance(critic(), protocol)} == {GivesValue, GivesMasks, HasFeatureMaps}
    assert make_encoder("critic").latents == {"all": (102,), "value": (1,), "bottleneck": (32,), "mask": (64,), "objects": (6,)}
    assert make_encoder("critic_wide").latents["bottleneck"] == (160,)


@torch.no_grad()
def test_all_is_the_other_readings_side_by_side() -> None:
    model, frames = critic().eval(), batch().frames
    found = model.clip_readings(frames)
    beside = [found["value"], found["bottleneck"], found["mask"], found["objects"][..., :-1]]
    assert torch.equal(found["all"], torch.cat(beside, -1))
    assert torch.equal(found["objects"][..., -1:], found["value"])
    assert torch.allclose(found["value"][..., 0], model.value(frames))
    masks = model.masks(frames)[:, 0]
    tiles = torch.stack(
        [masks[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean((1, 2)) for row in range(8) for column in range(8)], 1
    )
    assert torch.allclose(found["mask"][:, 0], tiles, atol=1e-6)


def test_values_are_trained_alone_at_first_and_then_with_masks() -> None:
    model = certain(critic()).train()
    mask = dict(model.mask_decoder.named_parameters())
    for step, trained in ((9, False), (10, True)):
        model.zero_grad()
        terms = model.loss(bright_and_dark(), step)
        terms["loss"].backward()
        assert ("replace" in terms) == trained
        assert any(bool(parameter.grad.any()) for parameter in mask.values()) == trained
    assert (float(terms["highs"]), float(terms["lows"])) == (3, 9)


def test_frames_without_a_known_reward_to_come_are_not_learned_from() -> None:
    model = critic(shift=0, dropout=0).train()
    some = batch(4, [0.2, NAN, 0.8, NAN])
    expected = (model.value(some.frames)[[0, 2], 0] - torch.tensor([0.2, 0.8])).square().mean()
    assert float(model.loss(some, 0)["objective"]) == pytest.approx(float(expected.detach()))
    assert float(model.loss(batch(2, [NAN, NAN]), 0)["objective"]) == 0


def test_a_batch_without_frames_of_high_value_trains_the_value_only() -> None:
    model = critic().train()
    dim = batch(6, [0.1] * 6)
    terms = model.loss(dim, 10)
    assert float(terms["highs"]) == 0
    assert float(terms["loss"].detach()) == pytest.approx(5 * float(terms["value_loss"]))
    terms["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert not any(bool(gradient.any()) for name, gradient in gradients.items() if name.startswith("mask_decoder"))


def test_frames_are_chosen_by_the_critic_s_value_and_only_where_the_reward_to_come_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    model, some = certain(critic(shift=0)).train(), bright_and_dark()
    some.targets[LABEL] = torch.tensor([NAN, 0.0, 0.0, *[1.0] * 9])[:, None]
    seen: list[Tensor] = []
    swap_terms = Critic.swap_terms

    def watched(self: Critic, a: Tensor, b: Tensor, values: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        seen.extend([a.mean((1, 2, 3)), b.mean((1, 2, 3)), *values])
        return swap_terms(self, a, b, values)

    monkeypatch.setattr(Critic, "swap_terms", watched)
    terms = model.loss(some, 10)
    a, b, value_a, value_b = seen
    assert torch.allclose(a, torch.tensor([0.9] * 3 + [0.1] * 3))
    assert torch.allclose(b, torch.full((6,), 0.1))
    assert torch.equal(value_a > 0.5, a > 0.5)
    assert not bool((value_b > 0.5).any())
    assert float(terms["highs"]) == 2


def test_drop_out_reaches_the_value_s_error_only() -> None:
    model = certain(critic(dropout=0.9, shift=0)).train()
    frames = bright_and_dark().frames[:, 0]
    assert torch.equal(model._masks(frames), model.eval()._masks(frames))
    noisy, again = (model.train()._logits(frames, noisy=True) for _ in range(2))
    assert not torch.equal(noisy, again)
    once, twice = (model.swap_terms(frames[:3], frames[3:6]) for _ in range(2))
    assert {name: float(term.detach()) for name, term in once.items()} == {name: float(term.detach()) for name, term in twice.items()}


@pytest.mark.parametrize(("value_frames", "learned"), [("batch", slice(None)), ("swapped", slice(3))])
def test_a_live_critic_goes_on_learning_from_the_whole_batch_or_from_what_is_swapped(value_frames: str, learned: slice) -> None:
    model, some = certain(critic(value_frames=value_frames, shift=0, dropout=0, swapped_frames=6)).train(), bright_and_dark()
    some.targets[LABEL][:3] = 0.5
    errors = (model.value(some.frames) - some.targets[LABEL]).square().detach()
    found = float(model.loss(some, 10)["value_loss"])
    # among the frames A, half are bright ones
    expected = errors.mean() if value_frames == "batch" else (errors[learned].mean() + errors[3:].mean()) / 2
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_a_frozen_critic_learns_nothing_while_the_mask_does() -> None:
    model = certain(critic(critic="frozen")).train()
    terms = model.loss(bright_and_dark(), 10)
    terms["loss"].backward()
    assert "value_loss" not in terms
    learning = {
        name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert learning == {"mask_decoder"}


def test_a_separate_encoder_is_the_mask_s_own() -> None:
    model = critic(separate=True).eval()
    frames = batch().frames
    value, masks = model.value(frames), model.masks(frames)
    with torch.no_grad():
        model.mask_trunk.convolutions[0].weight.add_(1)
    assert torch.equal(model.value(frames), value)
    assert not torch.allclose(model.masks(frames), masks)


def test_swap_terms_are_those_of_a_loop_over_frames() -> None:
    model = critic(norm_weight="value").eval()
    frames = batch().frames[:, 0]
    a, b = frames[:4], frames[4:8]

    def value(frame: Tensor) -> float:
        return float(model.value(frame[None, None]))

    with torch.no_grad():
        found = model.swap_terms(a, b)
        expected = {name: [] for name in found}
        for one, other in zip(a, b, strict=True):
            mask = model.masks(one[None, None])[0, 0]
            expected["replace"].append((value(one * (1 - mask) + mask * other) - value(other)) ** 2)
            expected["inject"].append((value(other * (1 - mask) + mask * one) - value(one)) ** 2)
            expected["l1"].append((1 - value(one)) * float(mask.mean()))
            expected["l2"].append((1 - value(one)) * float((mask**2).mean()))
    means = {name: float(np.mean(values)) for name, values in expected.items()}
    assert {name: float(term) for name, term in found.items()} == pytest.approx(means, rel=1e-3)


def test_validation_compares_the_same_thing_at_every_step() -> None:
    """What is swapped there is chosen by recorded rewards: a critic that calls every frame equal is not the best."""
    model = critic().eval()
    with torch.no_grad():
        torch.manual_seed(0)
        first = model.loss(batch(), 0)
        torch.manual_seed(0)
        later = model.loss(batch(), 10_000)
        equal = certain(critic()).eval()
        equal.value_head.output.weight.zero_()
        equal.value_head.output.bias.zero_()
        torch.manual_seed(0)
        indifferent = equal.loss(batch(), 0)
    assert {name: float(term) for name, term in first.items()} == {name: float(term) for name, term in later.items()}
    weights = {"value_loss": 5, "replace": 1, "inject": 1, "l1": 0.5, "l2": 0}
    assert float(first["objective"]) == pytest.approx(sum(weight * float(first[name]) for name, weight in weights.items()))
    assert float(indifferent["replace"]) > 0.1


def test_pairs_are_high_and_low_and_drawn_again_only_where_there_are_too_few() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([0.8, 0.9, 0.5, NAN, 0.1, 0.2, 0.0, 0.29, 0.3, 0.7])
    a, b = draw_pairs(scores, 0.3, 0.7, 8)
    assert set(a[:4].tolist()) <= {0, 1}
    assert sorted(a[4:].tolist()) == [4, 5, 6, 7]
    assert set(b.tolist()) <= {4, 5, 6, 7}
    assert (len(a), len(b)) == (8, 8)
    for none in (torch.full((4,), 0.9), torch.full((4,), 0.1), torch.full((4,), NAN)):
        assert [len(indices) for indices in draw_pairs(none, 0.3, 0.7, 8)] == [0, 0]


def test_masked_pixels_change_places() -> None:
    a, b, mask = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4)
    mask[:, 1, 2] = 1
    replaced, injected = swapped(a, b, mask)
    assert torch.allclose(replaced[:, :, 1, 2], b[:, :, 1, 2])
    assert torch.allclose(injected[:, :, 1, 2], a[:, :, 1, 2])
    assert torch.equal(replaced[:, :, 0], a[:, :, 0])
    assert torch.equal(injected[:, :, 0], b[:, :, 0])


def test_norms_count_frames_of_low_value_more_where_asked_to() -> None:
    masks = torch.tensor([0.2, 0.4])[:, None, None].expand(2, 3, 3)
    assert float(norm(masks, 1)) == pytest.approx(0.3)
    assert float(norm(masks, 2)) == pytest.approx(0.1)
    assert float(norm(masks, 1, torch.tensor([1.0, 0.5]))) == pytest.approx(0.1)


def test_shifted_frames_have_no_seam() -> None:
    ramp = torch.arange(16.0).expand(2, 3, 4, 16)
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        shifted = shifted_sideways(ramp, 5)
        seen.add(float(shifted[0, 0, 0, 8]))
        assert (shifted.diff(dim=-1).abs() == 1).all()
    assert seen == {float(column) for column in range(3, 14)}


def test_where_a_mask_s_thing_is_does_not_depend_on_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    model = critic().eval()
    mask = torch.zeros(1, 64, 64)
    mask[0, 20:25, 40:45] = 1
    monkeypatch.setattr(model, "_passed", lambda frames, with_masks: (torch.zeros(1, 32, 1, 1), torch.zeros(1), mask))
    full = model._readings(torch.zeros(1, 3, 64, 64), ["objects"])["objects"]
    with torch.autocast("cpu", torch.bfloat16):
        low = model._readings(torch.zeros(1, 3, 64, 64), ["objects"])["objects"]
    assert torch.equal(low, full)


def test_a_critic_of_two_kinds_of_frames_asks_for_those_that_it_tells_apart() -> None:
    h = CriticHyperparameters()
    assert Critic().needed_values == (h.low_below, h.high_above, h.least_frames)
    assert Critic(CriticHyperparameters(binarise_above=0.1)).needed_values == (0.1, 0.1, h.least_frames)


def test_objects_of_a_marked_square() -> None:
    mask = torch.zeros(2, 64, 64)
    mask[0, 8:16, 40:56] = 1
    x, y, area, spread, peak = objects(mask)[0].tolist()
    rows, columns = np.mgrid[8:16, 40:56]
    places = np.stack([(2 * columns + 1) / 64 - 1, (2 * rows + 1) / 64 - 1]).reshape(2, -1)
    assert (x, y) == pytest.approx(places.mean(1), abs=1e-5)
    assert spread == pytest.approx(float(np.sqrt(places.var(1).sum())), rel=1e-3)
    assert (area, peak) == pytest.approx((128 / 4096, 1), rel=1e-5)
    assert objects(mask)[1].tolist() == [0] * 5
    assert coarse(mask)[0].view(8, 8)[1, 5:7].tolist() == [1, 1]


@torch.no_grad()
def test_the_one_channel_convolution_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer, x = OneChannelConvolution(16, 1, 3, padding=1), torch.randn(2, 16, 6, 9)
    assert torch.allclose(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1), atol=1e-5)


def test_labels_are_asked_for_as_the_hyperparameters_say() -> None:
    options = critic(gamma=0.9, leave_out_after=7).targets[LABEL]
    assert (options["gamma"], options["leave_out_after"], options["reference_gaps"]) == (0.9, 7, False)
    binary = critic(binarise_above=0.3, shift=0, dropout=0).train()
    some = batch(4, [0.2, NAN, 0.31, 1.0])
    wanted = batch(4, [0.0, NAN, 1.0, 1.0])
    assert torch.equal(binary.loss(some, 0)["loss"], critic(shift=0, dropout=0).train().loss(wanted, 0)["loss"])


def test_without_the_label_a_critic_says_so() -> None:
    with pytest.raises(ValueError, match=LABEL):
        critic().loss(Batch(torch.rand(2, 1, 3, 32, 32)), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frame_shape": [60, 64, 3]}, "multiples of 16"),
        ({"low_below": 0.8}, "low_below"),
        ({"swapped_frames": 0}, "swapped_frames"),
        ({"shift": 64}, "shift"),
        ({"critic": "alive"}, "live, frozen"),
        ({"features": "some/run"}, "make_on_top"),
        ({"features": "{}"}, "describes no encoder"),
    ],
)
def test_a_critic_that_cannot_be_is_refused_in_words(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder("critic", **options)
