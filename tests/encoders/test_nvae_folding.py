"""A frozen NVAE encodes with folded normalisations: the same latents, never those of weights it had before."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from encoders.nvae.hyperparameters import NVAEHyperparameters
from encoders.nvae.model import NVAE

SIZES = {"frame_shape": (16, 16, 3), "encoder_channels": 8, "decoder_channels": 8, "latent_channels": 2, "scales": 2, "groups": 2}
FRAMES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def frozen(**options: object) -> NVAE:
    """Return a small model in float64 whose batch normalisations have something to do."""
    torch.manual_seed(0)
    model = NVAE(NVAEHyperparameters(**SIZES | {"mixtures": 2, "blocks": 1, "coarse_scales": 1} | options)).double()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
                part.weight.uniform_(0.5, 2)
                part.bias.normal_()
    return model.eval().requires_grad_(False)


def latents(model: NVAE, frames: Tensor = FRAMES) -> dict[str, Tensor]:
    """Return every reading as agents get it."""
    with torch.inference_mode():
        return {name: model.encode(frames, {}, latents=name)[0].clone() for name in model.latents}


def unfolded(model: NVAE, frames: Tensor = FRAMES) -> dict[str, Tensor]:
    """Return every reading with the layers as they are: what a gradient could go through."""
    with torch.enable_grad():
        return {name: model.encode(frames, {}, latents=name)[0] for name in model.latents}


@pytest.mark.parametrize("cells", ["res_mbconv", "res_elu", "res_bnelu", "mbconv_sep", "res53_mbconv", "mbconv_den", "mbconv_res"])
def test_a_frozen_model_gives_the_latents_of_its_layers_whatever_its_cells(cells: str) -> None:
    model = frozen(cells=cells, squeeze_excite=True, residual_posterior=True)
    torch.testing.assert_close(latents(model), unfolded(model))


@pytest.mark.parametrize("options", [{"flows": 2}, {"checkpoint_activations": True, "regularisation": 0.1}, {"scales": 1, "groups": 1}])
def test_a_frozen_model_gives_the_latents_of_its_layers_whatever_its_options(options: dict[str, object]) -> None:
    model = frozen(**options)
    torch.testing.assert_close(latents(model), unfolded(model))


def test_encoding_leaves_no_batch_norm_of_the_usual_cells_but_the_first_of_a_bottom_up_one() -> None:
    model = frozen()
    latents(model)
    network = model._folded.network
    left = {name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)}
    bottom_up = {f"{name}.branch.0" for name, _ in model.named_modules() if name.startswith(("preprocess", "bottom_up"))}
    assert left
    assert left <= bottom_up


def test_encoding_adds_nothing_to_what_a_model_is_or_saves() -> None:
    model = frozen()
    before, parts = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    latents(model)
    assert [name for name, _ in model.named_modules()] == parts
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def averaged(model: NVAE) -> NVAE:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.lerp_(torch.ones_like(parameter), 0.1)
    return model


def other_statistics(model: NVAE) -> NVAE:
    with torch.no_grad():
        next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d)).running_mean.add_(1)
    return model


def loaded(model: NVAE, assign: bool = False) -> NVAE:
    model.load_state_dict({name: tensor * 1.1 for name, tensor in model.state_dict().items()}, assign=assign)
    return model


def assigned(model: NVAE) -> NVAE:
    return loaded(model, assign=True)


def trained(model: NVAE) -> NVAE:
    model.train().requires_grad_(True)
    with torch.no_grad():
        model._features(2 * FRAMES)
    return model.eval().requires_grad_(False)


def followed(model: NVAE) -> NVAE:
    """Change a model that learns as target networks follow: past what counts versions."""
    latents(model.requires_grad_(True))
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    return model


@pytest.mark.parametrize("change", [averaged, other_statistics, loaded, assigned, trained, followed])
def test_latents_are_those_of_the_weights_of_now(change: Callable[[NVAE], NVAE]) -> None:
    model = frozen()
    before = latents(model)
    changed = latents(change(model))
    torch.testing.assert_close(changed, unfolded(model))
    assert (changed["pooled"] - before["pooled"]).abs().max() > 1e-6


def test_a_model_moved_to_another_type_and_a_copy_of_one_encode_with_their_own_weights() -> None:
    model = frozen()
    before = latents(model)
    twin = copy.deepcopy(model)
    for _ in range(8):
        averaged(twin)
        with torch.no_grad():
            found = twin.encode(FRAMES, {}, latents="top")[0]
        torch.testing.assert_close(found, unfolded(twin)["top"])
    torch.testing.assert_close(latents(model), before)
    low = latents(model.float(), FRAMES.float())
    assert low["top"].dtype == torch.float32
    torch.testing.assert_close(low["top"].double(), before["top"], atol=1e-4, rtol=1e-4)


def test_a_model_made_in_inference_mode_encodes() -> None:
    with torch.inference_mode():
        model = frozen()
    assert latents(model)["top"].isfinite().all()
