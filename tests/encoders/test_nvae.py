"""NVAE has the paper's sizes and shapes, runs no more of itself than a reading needs, and refuses what does not fit."""

import math
import runpy
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from encoders import Batch, check_encoder, load_encoder, make_encoder
from encoders.nvae.cells import bottom_up_cell, top_down_cell
from encoders.nvae.flows import Flow
from encoders.nvae.hyperparameters import NVAEHyperparameters
from encoders.nvae.model import NVAE
from encoders.nvae.objective import balance, kl_weight, regularisation_weight
from foundation.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"frame_shape": [16, 16, 3], "blocks": 1}


def small(**options: object) -> NVAE:
    torch.manual_seed(0)
    model = make_encoder("nvae_debug", **SMALL | options)
    assert isinstance(model, NVAE)
    return model


def random_frames(model: NVAE, count: int = 3) -> Tensor:
    height, width, channels = model.frame_shape
    return torch.rand(count, 1, channels, height, width, generator=torch.Generator().manual_seed(1))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def full() -> dict[str, NVAE]:
    """The presets without memory for their weights."""
    with torch.device("meta"):
        return {name: make_encoder(f"nvae_{name}").eval() for name in ("tiny", "small", "medium", "minecraft", "celeba64")}


def test_the_presets_have_the_reference_s_parameter_counts(full: dict[str, NVAE]) -> None:
    counts = {name: parameters(model) for name, model in full.items()}
    ours = {"tiny": 1_193_768, "small": 11_966_648, "medium": 5_660_420}
    assert counts == {**ours, "minecraft": 6_536_376, "celeba64": 153_281_364}
    fork = full["minecraft"]
    assert fork.start.numel() == 32_768
    assert [parameters(part) for part in (fork.stem, fork.preprocess, fork.postprocess, fork.image_head)] == [928, 474_304, 198_688, 29_000]
    assert sum(parameters(group.posterior_head) for group in fork.groups) == 461_600
    assert sum(parameters(group.prior_head) for group in fork.groups if group.prior_head) == 46_800


def test_the_cells_have_the_reference_s_parameter_counts() -> None:
    for excited in (False, True):
        h = NVAEHyperparameters(squeeze_excite=excited)
        cells = [bottom_up_cell(h, 64), bottom_up_cell(h, 64, half=True), top_down_cell(h, 64), top_down_cell(h, 64, double=True)]
        cells += [top_down_cell(h, 64, expansion=3), top_down_cell(h, 64, double=True, expansion=3)]
        extra = [580, 2_184, 580, 292, 580, 292] if excited else [0] * 6
        counts = [74_240, 230_528, 60_544, 50_272, 30_400, 26_272]
        assert [parameters(cell) for cell in cells] == [count + more for count, more in zip(counts, extra, strict=True)]
    assert parameters(Flow(20)) == 54_560


def test_the_groups_of_celeba64_go_from_coarse_to_fine_with_the_paper_s_shapes(full: dict[str, NVAE]) -> None:
    model = full["celeba64"]
    expected = [((8, 8), 512)] * 5 + [((16, 16), 256)] * 10 + [((32, 32), 128)] * 20
    assert [(at.size, at.decoder_channels) for at in model.hyperparameters.plan] == expected
    assert model.start.shape == (512, 8, 8)
    assert [(group.size, group.combine_state.out_channels) for group in model.groups] == expected
    assert [group.posterior_head.in_channels for group in model.groups] == [channels for _, channels in expected]
    assert sum(20 * math.prod(group.size) for group in model.groups) == 467_200
    assert model.latents == {"top": (1280,), "coarse": (6400,), "pooled": (700,), "top_down": (512,)}


def test_encoding_costs_what_the_presets_say(full: dict[str, NVAE]) -> None:
    found = {}
    for name in ("tiny", "small", "medium", "minecraft"):
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            full[name].requires_grad_(False).encode(torch.rand(1, 3, 64, 64), {})
        found[name] = round(counter.get_total_flops() / 2e6)
    assert found == {"tiny": 30, "small": 522, "medium": 869, "minecraft": 1194}


@pytest.mark.parametrize(
    ("reading", "inferred", "merged"), [("top", [0], []), ("top_down", [0], [0]), ("coarse", [0, 1], [0]), ("pooled", [0, 1, 2], [0, 1])]
)
def test_a_reading_runs_only_the_groups_it_needs(reading: str, inferred: list[int], merged: list[int]) -> None:
    model = small(groups=[1, 1, 1], scales=3, adaptive_groups=False).eval()
    ran: list[tuple[str, int]] = []
    for index, group in enumerate(model.groups):
        group.posterior_head.register_forward_hook(lambda *_, index=index: ran.append(("posterior", index)))
        group.combine_state.register_forward_hook(lambda *_, index=index: ran.append(("merge", index)))
    for module in (model.postprocess, model.image_head):
        module.register_forward_hook(lambda *_: ran.append(("image", 0)))
    model.encode(random_frames(model)[:, 0], {}, latents=reading)
    assert sorted(ran) == sorted([("posterior", index) for index in inferred] + [("merge", index) for index in merged])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"flows": 1, "default_latents": "pooled"},
        {"groups": 1, "scales": 1, "adaptive_groups": False, "coarse_scales": 1, "decoder_channels": 8},
        {"mixtures": 1, "residual_posterior": False, "frame_shape": [16, 32, 1]},
        {"groups": [1, 3], "adaptive_groups": False, "encoder_cells": 2, "decoder_cells": 2, "bits": 5, "squeeze_excite": False},
        {"blocks": 0, "preprocess_cells": 3, "checkpoint_activations": True, "regularisation_start": 1.0, "default_latents": "coarse"},
    ],
)
def test_every_choice_keeps_the_contract(options: dict) -> None:
    check_encoder(small(**options))


@pytest.mark.parametrize("cells", sorted(set(get_args(get_type_hints(NVAEHyperparameters)["cells"])) - {"res_mbconv"}))
def test_every_kind_of_cell_keeps_sizes_and_learns(cells: str) -> None:
    model = small(cells=cells, encoder_channels=8, decoder_channels=8)
    model.loss(Batch(random_frames(model)), 0)["loss"].backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in model.parameters())


def test_the_default_reading_is_the_one_asked_for() -> None:
    assert next(iter(small().latents)) == "top"
    model = small(default_latents="pooled").eval()
    assert next(iter(model.latents)) == next(iter(model.kl_per_unit(random_frames(model)))) == "pooled"
    frame = random_frames(model)[:, 0]
    assert torch.equal(model.encode(frame, {})[0], model.encode(frame, {}, latents="pooled")[0])


def test_every_reading_goes_through_the_flows() -> None:
    model = small(flows=1).eval()
    frames = random_frames(model)
    before = model.clip_readings(frames)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".flows." in name and name.endswith("log_gain"):
                parameter.add_(2)
    after = model.clip_readings(frames)
    assert all(not torch.allclose(before[name], after[name], atol=1e-4) for name in model.latents)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frame_shape": [16, 24, 3], "scales": 4, "coarse_scales": 1}, "multiples of 16"),
        ({"groups": [2, 1, 1], "adaptive_groups": False}, "3 counts for 2 scales"),
        ({"groups": [2, 1]}, "leave one of the two out"),
        ({"groups": 0}, "groups must be 1 or more at every scale"),
        ({"min_groups": 3}, "min_groups 3 is more than the finest scale has"),
        ({"coarse_scales": 3}, "coarse_scales 3 is more than there are"),
        ({"frame_shape": [16, 16, 1]}, "set mixtures to 1"),
        ({"cells": "mbconv_den"}, "multiples of 8"),
        ({"cells": "res_mbconv9"}, "must be one of"),
        ({"regularisation_start": 1.0, "regularisation": 0.0}, "regularisation_start"),
        ({"bits": 9}, "bits must be from 1 to 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        small(**options)


def test_training_on_single_frames_is_refused_where_there_are_batch_statistics() -> None:
    with pytest.raises(ValueError, match=r"raise training\.batch_size"):
        small().train().loss(Batch(random_frames(small(), 1)), 0)
    assert small().eval().loss(Batch(random_frames(small(), 1)), 0)
    assert small(cells="res_elu").train().loss(Batch(random_frames(small(), 1)), 0)


def test_losses_are_named_and_add_up() -> None:
    model = small(kl_constant_steps=2, kl_warmup_steps=10)
    batch = Batch(random_frames(model))
    for step in (0, 7, 12):
        torch.manual_seed(0)
        terms = model.eval().loss(batch, step)
        groups = [terms[f"kl_{index}"] for index in range(1, 4)]
        assert torch.allclose(sum(groups), terms["kl"])
        assert torch.allclose(terms["negative_elbo"], terms["reconstruction"] + terms["kl"])
        assert torch.allclose(terms["bits_per_dim"], terms["negative_elbo"] / (math.log(2) * 16 * 16 * 3))
        penalty = terms["regularisation"] * (terms["spectral_norms"] + terms["largest_gains"])
        weights = balance(torch.stack(groups), model.hyperparameters) if step < 12 else torch.ones(3)
        kl = terms["beta"] * (weights * torch.stack(groups)).sum()
        assert torch.allclose(terms["loss"], terms["reconstruction"] + kl + penalty)


def test_the_kl_s_weight_rises_and_the_regularisation_follows() -> None:
    h = NVAEHyperparameters(kl_constant_steps=10, kl_warmup_steps=100, regularisation=0.01, regularisation_start=1.0)
    assert [kl_weight(h, step) for step in (0, 10, 60, 110, 10_000)] == [1e-4, 1e-4, 0.5, 1.0, 1.0]
    assert kl_weight(NVAEHyperparameters(), 0) == 1.0
    assert [round(regularisation_weight(h, weight), 6) for weight in (0.0, 0.5, 1.0)] == [1.0, 0.1, 0.01]
    assert regularisation_weight(NVAEHyperparameters(regularisation=0.3), 0.1) == 0.3


def test_groups_are_balanced_by_their_kl_and_their_size() -> None:
    h = NVAEHyperparameters(groups=(20, 10, 5), scales=3)
    weights = balance(torch.full((35,), 3.0, requires_grad=True), h)
    assert not weights.requires_grad
    assert weights.mean().item() == pytest.approx(1)
    assert [weights[0].item() / weights[index].item() for index in (4, 5, 15)] == pytest.approx([1, 2, 4])
    silent = balance(torch.tensor([0.0, *[3.0] * 34]), h)
    assert silent[0] < 0.01 * silent[1]


def test_a_checkpointed_model_has_the_same_gradients_and_statistics() -> None:
    results = []
    for checkpointed in (False, True):
        model = small(checkpoint_activations=checkpointed).train()
        torch.manual_seed(3)
        model.loss(Batch(random_frames(model)), 1)["loss"].backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append(gradients | dict(model.named_buffers()))
    assert all(torch.equal(kept, results[1][name]) for name, kept in results[0].items())


def test_synchronised_batch_normalisation_can_be_computed_again() -> None:
    # it refuses to be without a count of batches before it asks for a GPU
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = nn.SyncBatchNorm.convert_sync_batchnorm(small(checkpoint_activations=checkpointed)).train()
        torch.manual_seed(3)
        model.loss(Batch(random_frames(model)), 1)["loss"].backward()
        counted = {int(layer.num_batches_tracked) for layer in model.modules() if isinstance(layer, nn.SyncBatchNorm)}
        assert counted == {1}
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True) if one is not None)


def test_losses_do_not_depend_on_autocast_but_for_rounding() -> None:
    model = small().eval()
    batch = Batch(random_frames(model))
    torch.manual_seed(0)
    full = model.loss(batch, 20)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        low = model.loss(batch, 20)
        latent = model.encode(batch.frames[:, 0], {})[0]
    assert latent.dtype == low["loss"].dtype == torch.float32
    assert low["negative_elbo"].item() == pytest.approx(full["negative_elbo"].item(), rel=0.01)
    assert torch.equal(low["spectral_norms"], full["spectral_norms"])


def test_batch_statistics_can_be_those_of_generated_frames_and_go_back() -> None:
    model = small().eval()
    posterior_statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(0)
    before = model.reestimate_batch_norm(temperature=0.7, iterations=3, batch_size=4)
    assert not model.training
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, posterior_statistics[name])}
    assert any(name.startswith("postprocess") and name.endswith("running_var") for name in changed)
    assert not any(name.startswith(("preprocess", "bottom_up", "spectral")) and "tracked" not in name for name in changed)
    model.load_state_dict(before, strict=False)
    assert all(torch.equal(buffer, posterior_statistics[name]) for name, buffer in model.named_buffers())


def test_samples_follow_the_temperature() -> None:
    model = small().eval()
    torch.manual_seed(0)
    cold, warm = (model.sample(8, temperature, temperature) for temperature in (0.0, 1.0))
    assert cold.shape == warm.shape == (8, 1, 3, 16, 16)
    assert torch.equal(cold[0], cold[1])
    assert warm.std(0).mean() > 0.05
    assert model.reconstruct_sample(random_frames(model)).shape == (3, 1, 3, 16, 16)


def test_groups_tell_what_they_carry_and_which_reading_an_agent_should_get() -> None:
    model = small()
    silent, lively = torch.zeros(4), torch.tensor([3.0, 1.0, 0.2, 0.05])
    groups = model.group_information({"pooled": torch.cat([silent, lively, lively])})
    assert [(group.scale, group.size, round(group.kl, 2), group.active_channels) for group in groups] == [
        (0, (4, 4), 0, 0),
        (1, (8, 8), 4.25, 3),
        (1, (8, 8), 4.25, 3),
    ]
    assert model.informative_reading({"pooled": torch.cat([lively, silent, silent])}) == "top"
    assert model.informative_reading({"pooled": torch.cat([silent, lively, lively])}) == "coarse"
    assert small(coarse_scales=1).informative_reading({"pooled": torch.cat([silent, lively, lively])}) == "pooled"


def test_the_debug_preset_trains_and_goes_on_where_it_stopped(video_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: Path, steps: int) -> None:
        arguments = ["train_encoder.py", "nvae_debug", "--store", video_store, "--run", folder, "--threads", 1, "--device", "cpu"]
        options = ["--steps", steps, "--training.validation-frames", 8, "--training.validation-every", 2]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in (*arguments, *options)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(REPOSITORY / "train_encoder.py"), run_name="__main__")
        assert not ended.value.code

    run(tmp_path / "whole", 4)
    run(tmp_path / "stopped", 2)
    run(tmp_path / "stopped", 4)
    whole, stopped = (load_encoder(tmp_path / folder).model.state_dict() for folder in ("whole", "stopped"))
    assert any(name.startswith("spectral_norms.left") for name in whole)
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in whole.items())
