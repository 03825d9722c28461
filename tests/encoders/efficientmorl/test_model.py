"""What a user of slots relies on: deterministic readings, memory that keeps slots, masks that share every pixel out, sizes as stated."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from encoders import Batch, Generates, HasSlots, TracksSlots, check_encoder, make_encoder
from encoders.artifact import reading_statistics
from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters
from encoders.efficientmorl.model import EfficientMORL
from encoders.encoder import EstimatesMemory, ReadsPublished

SIZE: dict[str, Any] = {"frame_shape": [32, 32, 3]}


def loud(preset: str = "efficientmorl_debug", **options: Any) -> Any:
    """Return a model whose slots differ, as those of a trained one do."""
    torch.manual_seed(0)
    model = make_encoder(preset, **{**SIZE, **options})
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


OTHER_CHOICES = {"dual_gru": False, "likelihood": "mixture", "prior": "bottom_up", "decoder": "small", "loss_weights": "paper"}
ATTENDING = {"slots": 3, "slot_size": 8, "encoder_channels": 8, "encoder_strides": [4, 2], "decoder": "iodine", "tracking": True}


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("efficientmorl_debug", {}),
        ("efficientmorl_debug", {"tracking": True, "masks_from": "decoder", "encode_refinements": 1}),
        ("efficientmorl_debug", OTHER_CHOICES),
        ("slot_attention", ATTENDING),
    ],
)
def test_every_kind_keeps_the_contract(preset: str, options: dict[str, Any]) -> None:
    model = make_encoder(preset, **{**SIZE, "decoder_channels": 8, **options})
    check_encoder(model)
    assert isinstance(model, HasSlots)
    assert isinstance(model, TracksSlots)
    assert isinstance(model, EstimatesMemory)
    assert isinstance(model, ReadsPublished)
    assert isinstance(model, Generates) == (preset != "slot_attention")


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("tetrominoes", 467_238), ("dsprites", 666_502), ("clevr6", 666_502), ("clevr10", 666_502), ("tiny", 186_838)],
)
def test_presets_are_of_the_published_sizes(preset: str, parameters: int) -> None:
    """The published counts have GECO's two numbers among the parameters."""
    model = make_encoder(f"efficientmorl_{preset}")
    assert sum(parameter.numel() for parameter in model.parameters()) + 2 == parameters


@pytest.mark.parametrize(("gain", "differ"), [(1.0, True), (0.02, False)])
def test_with_usual_start_values_slots_differ_between_frames_from_the_first(gain: float, differ: bool) -> None:
    """With the published ones they are the same for every frame: an untrained encoder tells nothing."""
    torch.manual_seed(0)
    model = make_encoder("efficientmorl_tiny", start_gain=gain).eval()
    with torch.no_grad():
        latents = model.encode(torch.rand(32, 3, 64, 64).round(), {}, None, "slots_flat")[0].unflatten(1, (6, -1))[..., :32]
    between = latents.std(0).norm() / latents.mean(0).norm()
    assert between > 1e-3 if differ else between < 1e-6


def test_the_tiny_encoder_takes_at_most_40_million_multiplications_a_frame() -> None:
    model, counts = make_encoder("efficientmorl_tiny").eval(), []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counts.append(output.numel() * layer.in_channels * math.prod(layer.kernel_size))
        elif isinstance(layer, nn.Linear):
            counts.append(output.numel() * layer.in_features)
        elif isinstance(layer, nn.GRUCell):
            counts.append(len(inputs[0]) * 6 * layer.hidden_size**2)

    for layer in model.modules():
        layer.register_forward_hook(note)
    with torch.inference_mode():
        model.encode(torch.rand(1, 3, 64, 64), {})
    h = model.hyperparameters
    attention = h.layers * 2 * math.prod(model.image_encoder.size) * h.slots * h.slot_size
    assert 20e6 < sum(counts) + attention <= 40e6


@pytest.mark.parametrize("preset", ["efficientmorl_debug", "slot_attention"])
def test_slots_share_every_pixel_out_at_every_level(preset: str) -> None:
    options = {} if preset == "efficientmorl_debug" else {"slots": 3, "slot_size": 8, "encoder_channels": 8, "decoder": "small"}
    model, frames = loud(preset, **options), torch.rand(2, 3, 32, 32)
    found = model.slots(frames)
    levels = 3
    assert len(found.levels) == levels == len(found.masks) == len(found.pictures) == len(found.attention) == len(found.logits)
    for masks, pictures, picture in zip(found.masks, found.pictures, found.reconstruction, strict=True):
        torch.testing.assert_close(masks.sum(1), torch.ones(2, 32, 32))
        torch.testing.assert_close((masks[:, :, None] * pictures).sum(1), picture)
    assert found.means.shape == found.deviations.shape == (2, 3, 8)
    assert found.kl.shape == (2,)
    attention = found.attention[0]
    assert attention is not None
    torch.testing.assert_close(attention.sum(1), torch.ones(2, *model.image_encoder.size), rtol=0, atol=1e-5)
    pictures, masks = model.decode_slots(found.means)
    torch.testing.assert_close(pictures, found.pictures[-1])
    torch.testing.assert_close(masks, found.masks[-1])


def test_refinement_works_and_finds_the_same_whatever_the_caller_forbids() -> None:
    model, frames = loud(), torch.rand(2, 3, 32, 32)
    with torch.enable_grad():
        expected = model.slots(frames, refinements=2)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = model.slots(frames.clone(), refinements=2)
        assert torch.equal(found.means, expected.means)
        assert torch.equal(found.kl, expected.kl)
    assert found.levels == ["layer 1", "layer 2", "refinement 1", "refinement 2"]
    assert not torch.equal(model.slots(frames, refinements=0).means, expected.means)
    assert not expected.means.requires_grad


def test_a_refined_frame_does_not_depend_on_its_batch() -> None:
    model, frames = loud(encode_refinements=2), torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        together = model.encode(frames, {})[0]
        alone = torch.cat([model.encode(frame[None], {})[0] for frame in frames])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_tracked_slots_start_from_where_they_were() -> None:
    model, frames = loud(tracking=True), torch.rand(2, 3, 32, 32)
    state = model.initial_state(2)
    with torch.no_grad():
        first, after = model.encode(frames, state)
        assert torch.equal(after["slots"], first[..., :8])
        swapped = {"slots": state["slots"].flip(1)}
        # a slot is its start and what it sees: slots that start in another order end in that order
        torch.testing.assert_close(model.encode(frames, swapped)[0], first.flip(1), rtol=1e-4, atol=1e-5)
        again, _ = model.encode(frames, after)
    assert not torch.equal(again, first)
    assert loud().initial_state(2) == {}


def test_slots_that_start_from_the_frame_before_are_those_of_a_tracked_clip() -> None:
    for options in ({}, {"encode_refinements": 1}):
        torch.manual_seed(4)
        model, frames = loud(tracking=True, masks_from="decoder", **options), torch.rand(2, 3, 3, 32, 32)
        with torch.no_grad():
            expected, slots = model.encode_clip(frames, latents="slots"), model.slot_starts(2)
            for time in range(3):
                slots, masks = model.slots_from(frames[:, time], slots)
                torch.testing.assert_close(slots, expected[:, time, :, :8], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(masks.mean((2, 3)), expected[:, time, :, 8], rtol=1e-4, atol=1e-5)
        assert torch.equal(model.slot_starts(2), model.slot_starts(2))
        assert not torch.equal(model.slot_starts(2, fresh=True), model.slot_starts(2, fresh=True))


def test_the_rows_of_a_set_are_standardised_alike_so_that_their_order_carries_nothing() -> None:
    model, frames = loud(masks_from="decoder"), np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    statistics = reading_statistics(model, frames)
    with torch.no_grad():
        readings = model.clip_readings(torch.from_numpy(frames).movedim(-1, 1)[:, None] / 255)
    for name in ("slots", "masks"):
        mean, deviation = statistics[name][:2]
        rows = readings[name].flatten(0, 2).double()
        assert mean.shape == readings[name].shape[2:]
        floor = rows.std(0, unbiased=False).max() * 0.05
        for row in range(len(mean)):
            torch.testing.assert_close(mean[row], rows.mean(0).float(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(deviation[row], rows.std(0, unbiased=False).clamp_min(floor).float(), rtol=1e-3, atol=1e-4)
    flat = statistics["slots_flat"].mean
    assert not torch.allclose(flat.view(3, -1)[0], flat.view(3, -1)[1])


def test_readings_are_differentiable_for_heads_that_train_with_the_encoder() -> None:
    for options in ({}, {"encode_refinements": 1, "masks_from": "decoder"}):
        model = loud(**options)
        latents = model.encode_clip(torch.rand(2, 1, 3, 32, 32), latents="slots")
        latents.square().sum().backward()
        assert model.image_encoder.convolutions[0].weight.grad.abs().sum() > 0


def test_validation_changes_nothing_and_its_loss_needs_no_gradient() -> None:
    model, batch = loud(geco_warmup_steps=0), Batch(torch.rand(2, 1, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        terms = model.loss(batch, 5)
    assert not any(term.requires_grad for term in terms.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.train().loss(batch, 5)
    assert {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])} == {"geco.beta", "geco.distance"}


def test_validation_s_loss_is_the_training_loss_of_the_same_noise() -> None:
    model, batch = loud(), Batch(torch.rand(2, 1, 3, 32, 32))
    found = []
    for context in (torch.no_grad(), torch.enable_grad()):
        torch.manual_seed(3)
        with context:
            found.append({name: term.item() for name, term in model.loss(batch, 0).items()})
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_validation_refines_as_often_as_judges_do_at_any_step() -> None:
    model, batch = loud(refinement_curriculum=[[-1, 3], [10, 1]]), Batch(torch.rand(2, 1, 3, 32, 32))
    steps = {step: sum(name.startswith("delta_norm_") for name in model.train().loss(batch, step)) for step in (0, 10)}
    assert steps[0] == steps[10] + 2
    found = []
    for step in (0, 10):
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(model.eval().loss(batch, step))
    assert found[0].keys() == found[1].keys()
    assert float(found[0]["negative_elbo"]) == float(found[1]["negative_elbo"])
    assert sum(name.startswith("delta_norm_") for name in found[0]) == steps[10]


def test_the_negative_elbo_is_the_last_step_s_with_the_constant_and_at_beta_1() -> None:
    model = loud(beta=3.0, geco_warmup_steps=0).train()
    terms = model.loss(Batch(torch.rand(2, 1, 3, 32, 32)), 0)
    expected = terms["nll_2"] + terms["kl_2"] + 32 * 32 * 3 * math.log(2 * math.pi) / 2
    assert terms["negative_elbo"] == pytest.approx(float(expected), rel=1e-6)
    assert (terms["nll"], terms["kl"]) == (terms["nll_2"], terms["kl_2"])
    assert terms["geco_multiplier"] == pytest.approx(math.log1p(math.exp(0.55)), rel=1e-6)


def test_a_kl_of_weight_0_leaves_the_likelihood_alone() -> None:
    model = loud(beta=0.0, geco_warmup_steps=0, refinement_curriculum=[[-1, 1]])
    terms = model.loss(Batch(torch.rand(2, 1, 3, 32, 32)), 0)
    assert terms["loss"].item() == pytest.approx(2 * terms["nll_0"].item() + 1.5 * terms["nll_1"].item(), rel=1e-6)


@pytest.mark.parametrize("prior", ["reversed++", "reversed", "bottom_up"])
@pytest.mark.parametrize("refinements", [0, 1])
def test_samples_are_drawn_from_the_prior_that_what_is_judged_keeps_near(prior: str, refinements: int) -> None:
    """As many passes of the prior's network as lie between N(0, 1) and the latents that are decoded."""
    model, passes = loud(prior=prior, test_refinements=refinements, layers=3), []
    model.prior.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        assert model.sample(2).shape == (2, 1, 3, 32, 32)
    assert len(passes) == {("reversed++", 1): 2, ("bottom_up", 0): 2}.get((prior, refinements), 0)


def test_slots_start_from_one_distribution_and_only_their_noise_tells_them_apart() -> None:
    model = loud()
    model.noise.copy_(model.noise[:1].expand_as(model.noise))
    slots = model.encode(torch.rand(1, 3, 32, 32), {})[0]
    torch.testing.assert_close(slots[:, 0], slots[:, 1])


def test_memory_is_estimated_by_what_is_held_at_once() -> None:
    few, many = (EfficientMORL(EfficientMORLHyperparameters(frame_shape=(32, 32, 3), slots=count)) for count in (2, 20))
    assert few.training_bytes(8, "cuda") == 2 * few.training_bytes(4, "cuda")
    assert 3 < many.training_bytes(1, "cpu") / few.training_bytes(1, "cpu") < 10
    # a CPU decodes a few frames at a time
    assert many.training_bytes(64, "cpu") < many.training_bytes(64, "cuda") / 2
