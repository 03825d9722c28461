"""Numbers of the published implementation, which lie beside the checkout, and our model with their weights.

Keys and conventions: the README beside the numbers. Shapes: N frames, K slots, D numbers of a slot, P tokens, H height, W width.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters
from encoders.efficientmorl.model import EfficientMORL, Trace
from encoders.efficientmorl.published import pieces, weights_of_published
from encoders.efficientmorl.slots import SlotEncoder

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "golden" / "efficientmorl"


def rounded(sigma: float) -> float:
    """Return a deviation as the reference has it, which rounds its logarithm to float32."""
    return math.exp(torch.tensor(math.log(sigma), dtype=torch.float32).item())


CASES: dict[str, dict[str, Any]] = {
    "tetrominoes": {"frame_shape": (35, 35, 3), "slots": 4, "slot_size": 32, "decoder": "small", "sigma": rounded(0.3)},
    "multi_dsprites": {"frame_shape": (64, 64, 3), "slots": 6, "slot_size": 64, "decoder": "iodine", "sigma": rounded(0.1)},
}
ORDER = ("z0", "layer1", "layer2", "layer3", "topdown_q3", "topdown_q2", "refine1", "refine2", "refine3")


class Golden:
    """The numbers, and what they are compared with, in float64."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")

    def scalars(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.json").read_text())

    def case(self, name: str, **hyperparameters: Any) -> SimpleNamespace:
        """Return a main case: model, frames (N, 3, H, W) in [0, 1], noise in its order, and the numbers."""
        found = self.tensors(f"{name}_forward")
        model = with_weights(EfficientMORL(EfficientMORLHyperparameters(**CASES[name], **hyperparameters)), self.tensors(f"{name}_weights"))
        noises = [found[f"noise/{key}"].double() for key in ORDER]
        return SimpleNamespace(model=model, frames=pictures(found["image"]), noises=noises, numbers=found)


def with_weights(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return the model in float64 with weights under the published names."""
    model = model.double()
    model.load_state_dict({**weights_of_published(weights, model.state_dict()), "noise": model.noise})
    return model


def pictures(frames_NHWC: Tensor) -> Tensor:
    """Turn uint8 frames into float64 (N, 3, H, W) in [0, 1]."""
    return frames_NHWC.movedim(-1, -3).double() / 255


def observed(model: EfficientMORL, run: Callable[[], Trace]) -> dict[str, Tensor]:
    """Return what the model computes on its way while `run` runs it, under the names of the golden file."""
    found, calls = {}, defaultdict(list)

    def note(name: str) -> Any:
        return lambda module, inputs, output: calls[name].append((inputs, output))

    watched = {
        "convolutions": model.image_encoder.convolutions,
        "tokens": model.image_encoder.mlp,
        "key": model.attention.key,
        "value": model.attention.value,
        "attention": model.attention,
        "decoder": model.decoder,
        "refinement": model.refinement,
    }
    hooks = [module.register_forward_hook(note(name)) for name, module in watched.items()]
    trace = run()
    for hook in hooks:
        hook.remove()
    found["encoder/conv_out_img0_every4"] = calls["convolutions"][0][1][0, :, ::4, ::4]
    tokens = calls["tokens"][0][1]
    found |= {"encoder/tokens_img0": tokens[0], "encoder/tokens_mean": tokens.mean(1)}
    found |= {f"encoder/{name[0]}_mean": calls[name][0][1].mean(1) for name in ("key", "value")}
    start = model.start_slots(1)
    found |= {"init/mu": start.mean[:, 0], "init/s": start.raw[:, 0]}
    # what is decoded first is the last layer's draw
    draws = [*(inputs[0] for inputs, _ in calls["attention"][1:]), calls["decoder"][0][0][0].view_as(trace.posteriors[-1].mean)]
    for index, (q, share, z) in enumerate(zip(trace.posteriors, trace.shares_NKP, draws, strict=True), 1):
        found |= {f"layer{index}/mu": q.mean, f"layer{index}/s": q.raw, f"layer{index}/attn": share, f"layer{index}/z": z}
    for index, (q, p) in enumerate(zip(trace.posteriors, trace.priors, strict=True), 1):
        found[f"kl/layer{index}"] = q.kl(p).sum(-1)
        if p is not None:
            found |= {f"prior{index}/mu": p.mean, f"prior{index}/s": p.raw}
    for index, (step, (inputs, _)) in enumerate(zip(trace.steps, calls["decoder"], strict=True)):
        found |= {f"lambda/step{index}": torch.cat(step.slots, -1), f"nll/step{index}": step.nll_N, f"loss/step{index}": step.loss}
        found |= {f"decode{index}/z": inputs[0], f"decode{index}/rgb": step.drawn.colours, f"decode{index}/mask_logit": step.drawn.logits}
        found[f"decode{index}/mask_area"] = step.drawn.masks.mean((-2, -1))
        found[f"decode{index}/recon_mean"] = step.drawn.picture.mean((-2, -1))
        if index:
            found[f"kl/refine{index}"] = step.kl_NKD.sum(-1)
    for index, ((_, gradient, _), (change, hidden)) in enumerate(calls["refinement"], 1):
        found |= {
            f"grad/step{index - 1}": torch.cat(gradient, -1),
            f"delta/step{index}": torch.cat(change, -1),
            f"hidden/step{index}": hidden,
        }
    return {name: tensor.detach() for name, tensor in found.items()}


def assert_same(found: Tensor, expected: Tensor, name: str, rtol: float = 1e-5) -> None:
    """Compare with what was stored, perhaps only of some pictures, pixels or tokens."""
    expected = expected.double()
    if found.numel() != expected.numel():
        found = found[: len(expected)] if not name.endswith("img0") else found
        strides = [-(-there // stored) for there, stored in zip(found.shape, expected.shape, strict=True)]
        found = found[tuple(slice(None, None, stride) for stride in strides)]
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.reshape(expected.shape), expected, rtol=rtol, atol=rtol * scale / 10, msg=lambda text: f"{name}: {text}"
    )


def gradients_by_published_name(model: SlotEncoder, weights: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return the norm and the sum of every parameter's gradient, under the published names without `hvae_networks.`."""
    theirs = {name.removeprefix("hvae_networks."): tensor for name, tensor in weights.items()}
    squares, sums = defaultdict(float), defaultdict(float)
    for name, parameter in model.named_parameters():
        parts = pieces(name)
        sizes = [len(piece.of(theirs[piece.name])) if parameter.ndim else 1 for piece in parts]
        for piece, gradient in zip(parts, parameter.grad.split(sizes), strict=True):
            squares[piece.name] += float(gradient.square().sum())
            sums[piece.name] += float(gradient.sum())
    return {name: (math.sqrt(squares[name]), sums[name]) for name in squares}


def gradient_norm(model: SlotEncoder) -> float:
    return math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in model.parameters() if parameter.grad is not None))
