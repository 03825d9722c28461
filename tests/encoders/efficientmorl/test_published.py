"""A published checkpoint comes in by its names, and nothing in its file is run."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import load_encoder, make_encoder
from encoders.efficientmorl.published import pieces
from encoders.encoder import Encoder
from encoders.registry import make_architecture
from encoders.training.run_record import recorded
from encoders.training.state import read_resume
from tests.encoders.efficientmorl.golden import Golden

OPTIONS = {"frame_shape": [16, 16, 3], "slots": 3, "slot_size": 8, "encoder_channels": 8, "decoder": "small", "decoder_channels": 8}


def published(model: Encoder) -> dict[str, Tensor]:
    """Return the model's weights as the reference would have saved them."""
    found: dict[str, Tensor] = {}
    is_slot_attention = "residual.norm.weight" in model.state_dict()
    for name, tensor in model.state_dict().items():
        parts = pieces(name, is_slot_attention)
        if len(parts) == 1:
            found[parts[0].name] = tensor.clone()
            continue
        for piece, part in zip(parts, tensor.split([2 * len(tensor) // 3, len(tensor) // 3]) if parts else (), strict=True):
            whole = found.setdefault(piece.name, torch.zeros(len(part) * piece.parts, *part.shape[1:]))
            whole[piece.first * len(part) : piece.end * len(part)] = part
    return found


@pytest.mark.parametrize(("kind", "options"), [("efficientmorl", {}), ("efficientmorl", {"dual_gru": False}), ("slot_attention", {})])
def test_names_lead_there_and_back(kind: str, options: dict[str, Any]) -> None:
    model, other = (make_architecture(kind, OPTIONS | options) for _ in range(2))
    theirs = {f"module.hvae_networks.{name}": tensor for name, tensor in published(model).items()}
    theirs |= {"module.hvae_networks.gru.cell.mask": torch.ones(3, 3), "module.h_0": torch.zeros(32, 8)}
    content = {"step": 7, "model": theirs, "optimiser": {"state": {}}, "kl_beta": 1.0}
    found = other.published_weights(content)  # type: ignore[attr-defined]
    assert found.keys() == model.state_dict().keys() - {"noise"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in found.items())


def test_the_table_has_every_name_of_the_reference(golden: Golden) -> None:
    """And no more than those, for the nets that have published weights."""
    table = golden.scalars("parameter_table")
    names = [piece.name for name in make_encoder("efficientmorl_dsprites").state_dict() for piece in pieces(name)]
    assert set(names) == {name.removeprefix("hvae_networks.") for name in table}


def test_a_checkpoint_trains_on_and_its_file_is_recorded(command: Callable[..., int], video_store: Path, tmp_path: Path) -> None:
    model, path, run = make_encoder("efficientmorl_debug"), tmp_path / "state-7.pth", tmp_path / "run"
    torch.save({"step": 7, "model": {f"module.hvae_networks.{n}": t for n, t in published(model).items()}}, path)
    train = ["train_encoder.py", "efficientmorl_debug", "--store", video_store, "--run", run, "--threads", 1, "--device", "cpu"]
    assert command(*train, "--weights", path, "--steps", 1, "--training.warmup-steps", 1000000) == 0
    assert recorded(run, "weights") == {"run": str(path), "step": 7}
    weights = load_encoder(run).model.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.startswith("noise"):
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-8)
    assert read_resume(run)["step"] == 1


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(Path("/tmp") / "should-not-be-there"), "w"))


@pytest.mark.parametrize(
    ("preset", "content", "said"),
    [
        ("efficientmorl_debug", {"model": {}}, "has no 'init_posterior'; give the --model options that it was trained with"),
        ("efficientmorl_debug", {"model": 3}, "holds no weights by name"),
        ("efficientmorl_debug", [1, 2], "holds no weights by name"),
        ("efficientmorl_debug", Bomb(), "cannot be read as tensors and plain values"),
        ("debug", {"model": {}}, "a 'conv_vae' reads no published checkpoints; name the folder of a run"),
    ],
)
def test_what_is_no_checkpoint_of_this_model_is_one_line(
    command: Callable[..., int], video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, preset: str, content: Any, said: str
) -> None:
    path = tmp_path / "file.pth"
    if isinstance(content, Bomb):
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    words = ["train_encoder.py", preset, "--store", video_store, "--run", tmp_path / "run", "--threads", 1, "--device", "cpu"]
    assert command(*words, "--weights", path) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "\n" not in printed
    assert not Path("/tmp/should-not-be-there").exists()


def test_weights_of_another_size_are_named() -> None:
    small, large = (make_architecture("efficientmorl", OPTIONS | {"slot_size": size}) for size in (8, 12))
    with pytest.raises(ValueError, match=r"its 'init_posterior' is \(1, 16\), not as this model's"):
        large.published_weights(published(small))  # type: ignore[attr-defined]
