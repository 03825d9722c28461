"""With the reference's weights, the critic, its mask and the Critic-VAE give the reference's numbers."""

import hashlib
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.critic.hyperparameters import CriticHyperparameters
from encoders.critic.model import Critic
from encoders.critic_vae.hyperparameters import CriticVAEHyperparameters
from encoders.critic_vae.model import CriticVAE, gaussian_kl, ms_ssim

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN = SHARED / "golden" / "critic"
RECORDINGS = SHARED / "data" / "minerl"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs ../shared/golden/critic")

LAYERS = {
    "features.0": "trunk.convolutions.0",
    "features.3": "trunk.convolutions.1",
    "features.6": "trunk.convolutions.2",
    "features.10": "trunk.convolutions.3",
    "features.14": "trunk.to_bottleneck",
    "crit.1": "value_head.hidden",
    "crit.4": "value_head.output",
    "dec_model.0": "mask_decoder.merges.0",
    "dec_model.1": "mask_decoder.merges.1",
    "dec_model.2": "mask_decoder.merges.2",
    "dec_model.3": "mask_decoder.merges.3",
    "dec_model.4": "mask_decoder.start",
    "masker.0": "mask_decoder.hidden",
    "masker.2": "mask_decoder.output",
}
VAE_LAYERS = {
    "encoder.model": "encoder",
    "encoder.fc_mu": "to_mean",
    "encoder.fc_var": "to_log_variance",
    "decoder.decoder_input": "from_latents",
    "decoder.model": "decoder",
}


def ours(name: str) -> str:
    """Return our name of a reference's parameter, such as `critic/features.0.weight`."""
    layer, _, kind = name.partition("/")[2].rpartition(".")
    return f"{LAYERS[layer]}.{kind}"


def with_weights(file: str, *models: str) -> Critic:
    critic = Critic()
    found = {ours(name): tensor for name, tensor in load_file(GOLDEN / file).items() if name.partition("/")[0] in models}
    missing = critic.load_state_dict(found, strict=False).missing_keys
    assert not missing or (len(models) == 1 and all(name.startswith("mask_decoder") for name in missing))
    return critic.eval()


def pictures(frames: Tensor | np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.as_tensor(frames).movedim(-1, 1).to(dtype) / 255


def scalars(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text())


@pytest.fixture(scope="module")
def own() -> dict[str, Tensor]:
    return load_file(GOLDEN / "own_outputs.safetensors")


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return load_file(GOLDEN / "critic_outputs.safetensors")


@pytest.fixture
def random_critic() -> Critic:
    return with_weights("own_critic_weights.safetensors", "critic", "masker").double()


def close(found: Tensor, expected: Tensor, scale: float = 1e-5) -> None:
    assert torch.allclose(found, expected.to(found.dtype), rtol=scale, atol=scale * float(expected.abs().max()) / 10)


@torch.no_grad()
def test_values_maps_and_masks_of_random_weights(random_critic: Critic, own: dict[str, Tensor]) -> None:
    x = pictures(own["image"], torch.float64)
    close(random_critic.value(x[:, None])[:, 0], own["own/value"])
    close(random_critic.masks(x[:, None])[:, 0], own["own/mask"])
    close(random_critic.encode(x, {}, latents="bottleneck")[0], own["own/bottleneck"])
    for number, found in enumerate(random_critic.feature_maps(x[:4]), 1):
        close(found, own[f"own/pooled{number}"])


def test_the_swap_loss_and_all_of_its_gradients(random_critic: Critic, own: dict[str, Tensor]) -> None:
    golden = scalars("own_scalars.json")["own_swap_loss"]
    x = pictures(own["image"], torch.float64)
    a, b, to_come = x[:8], x[8:], torch.tensor(golden["R"], dtype=torch.float64)
    terms = {"value_loss": random_critic.value_loss(random_critic._logits(a), to_come), **random_critic.swap_terms(a, b)}
    total = random_critic.weighted(terms)
    total.backward()
    found = {name: float(term.detach()) for name, term in {**terms, "total": total}.items()}
    expected = {"value_loss": "critic", "replace": "replace", "inject": "inject", "total": "total"}
    assert {name: found[name] for name in expected} == pytest.approx({name: golden[key] for name, key in expected.items()}, rel=1e-5)
    assert 0.5 * found["l1"] == pytest.approx(golden["L1_term"], rel=1e-5)
    norms = {name: float(parameter.grad.norm()) for name, parameter in random_critic.named_parameters()}
    assert norms == pytest.approx({ours(name): norm for name, norm in golden["grad_l2"].items()}, rel=1e-5)


@torch.no_grad()
def test_the_published_pair_marks_in_stills_what_it_did(published: dict[str, Tensor]) -> None:
    frames = []
    for still in scalars("critic_scalars.json")["stills"]:
        path = RECORDINGS / "test" / "human64-stills" / still["file"]
        if not path.exists():
            pytest.skip(f"needs {path}")
        frames.append(np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1]))
        assert hashlib.sha256(frames[-1].tobytes()).hexdigest() == still["sha256_of_decoded_rgb"]
    _as_published(published, "stills", np.stack(frames))


@torch.no_grad()
@pytest.mark.parametrize("name", ["treechop3", "treechop1", "RainbowTreechop2"])
def test_the_published_pair_marks_in_recordings_what_it_did(published: dict[str, Tensor], name: str) -> None:
    path = RECORDINGS / scalars("critic_scalars.json")[f"video/{name}"]["file"]
    if not path.exists():
        pytest.skip(f"needs {path}")
    wanted, frames = published[f"video/{name}/frame_index"].tolist(), []
    video = cv2.VideoCapture(str(path))
    for index in range(max(wanted) + 1):
        assert video.grab()
        if index in wanted:
            frames.append(np.ascontiguousarray(video.retrieve()[1][:, :, ::-1]))
    if not np.allclose(np.stack(frames).mean((1, 2, 3)), published[f"video/{name}/frame_mean"], atol=1e-3):
        pytest.skip(f"{path} is decoded to other pixels here")
    _as_published(published, f"video/{name}", np.stack(frames))


def _as_published(published: dict[str, Tensor], which: str, frames: np.ndarray) -> None:
    x = pictures(frames)[:, None]
    pair = with_weights("critic_f1_weights.safetensors", "recon_critic", "recon_masker")
    assert torch.allclose(pair.value(x)[:, 0], published[f"{which}/recon_critic/value"], atol=1e-4)
    # kept as bytes: rounded to the nearest
    assert (pair.masks(x)[:, 0] - published[f"{which}/recon_critic/mask_u8"] / 255).abs().max() <= 0.5 / 255 + 1e-4
    for name in ("critic_100000", "critic_99999"):
        alone = with_weights("critic_f1_weights.safetensors", name)
        assert torch.allclose(alone.value(x)[:, 0], published[f"{which}/{name}/value"], atol=1e-4)


@torch.no_grad()
def test_the_published_pair_s_masks_of_painted_pictures(published: dict[str, Tensor]) -> None:
    x = pictures(published["synthetic/image"])[:, None]
    pair = with_weights("critic_f1_weights.safetensors", "recon_critic", "recon_masker")
    assert torch.allclose(pair.masks(x)[:, 0], published["synthetic/recon_critic/mask"], atol=1e-4)


@pytest.mark.parametrize(("factor", "value", "mask"), [(1, 11_873, 13_785), (5, 289_761, 305_913)])
def test_parameters_of_the_critic(factor: int, value: int, mask: int) -> None:
    critic = Critic(CriticHyperparameters(factor=factor))
    assert (_count(critic.trunk, critic.value_head), _count(critic.mask_decoder)) == (value, mask)


def test_parameters_of_the_critic_vae() -> None:
    vae = CriticVAE(critic=Critic())
    assert _count(vae.encoder, vae.to_mean, vae.to_log_variance) == 1_341_248
    assert _count(vae.from_latents, vae.decoder) == 1_242_723


def _count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture
def formula_vae() -> CriticVAE:
    """A Critic-VAE whose weights are the golden formula's."""
    torch.manual_seed(0)
    vae = CriticVAE(CriticVAEHyperparameters(output="tanh"), Critic()).double().eval()
    weights = dict(vae.named_parameters())
    for place, name in enumerate(scalars("own_scalars.json")["formula"]["tensor order"]):
        theirs = next(prefix for prefix in VAE_LAYERS if name.startswith(f"{prefix}."))
        weight = weights[VAE_LAYERS[theirs] + name.removeprefix(theirs)]
        waves = torch.sin(12.9898 * (torch.arange(weight.numel(), dtype=torch.float64) + 1) + 78.233 * (place + 1)).view_as(weight)
        scale = 0.1 if name.endswith("bias") else 0.2 if weight.ndim == 1 else 1.7 / math.sqrt(weight[0].numel())
        weight.data = scale * waves + (1 if weight.ndim == 1 and not name.endswith("bias") else 0)
    return vae


@torch.no_grad()
def test_the_critic_vae_s_forward_pass(formula_vae: CriticVAE, own: dict[str, Tensor]) -> None:
    x, value = pictures(own["image"], torch.float64), own["vae/V"].double()
    mean, log_variance = formula_vae.posterior(x[:4])
    close(mean, own["vae/mu"][:4])
    close(log_variance, own["vae/logvar"][:4])
    close(formula_vae.at_value(mean, value[:4]), own["vae/recon_V_first4"])
    close(formula_vae.at_value(mean, torch.zeros(4)), own["vae/recon_0_first4"])
    scaled = formula_vae.differences(mean, value[:4]) / scalars("own_scalars.json")["mean_of_maxima"]
    # kept as bytes: rounded down
    assert (scaled.clamp(max=1) * 255 - own["vae/difference_u8"][:4] - 0.5).abs().max() < 0.5 + 1e-3
    formula_vae.train()
    mean, log_variance = formula_vae.posterior(x)
    close(mean, own["vae/train_mu"])
    z = mean + torch.exp(log_variance / 2) * own["vae/eps"]
    close(formula_vae.at_value(z[:4], value[:4]).mean((2, 3)), own["vae/train_recon_mean"][:4])
    unweighted = scalars("own_scalars.json")["train_mode"]["kl_term_unweighted"]
    assert float(gaussian_kl(mean, log_variance).sum(1).mean()) == pytest.approx(unweighted, rel=1e-5)


def test_ms_ssim_with_the_right_window(own: dict[str, Tensor]) -> None:
    x = pictures(own["image"])
    golden = scalars("own_scalars.json")["ms_ssim_loss_1_minus"]
    changed = {
        "distorted: clamp(x+0.15*sin(40x),0,1)": (x + 0.15 * torch.sin(40 * x)).clamp(0, 1),
        "5x5 box blur with zero padding counted": F.avg_pool2d(x, 5, 1, 2),
        "identical": x,
    }
    found = {name: 1 - float(ms_ssim(picture, x)) for name, picture in changed.items()}
    assert found == pytest.approx({name: golden[name]["right window, standard product"] for name in changed}, rel=1e-5, abs=1e-6)
