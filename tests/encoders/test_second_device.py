"""Every encoder trains, encodes and is saved on a second device with the numbers that the CPU gives, and never mixes the two."""

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.processes import found_by_another, write_found

ROOT = Path(__file__).resolve().parents[2]
PRESETS = (
    "debug",
    "heads_debug",
    "pca",
    "nvae_debug",
    "cwvae_debug",
    "critic_debug",
    "critic_vae_debug",
    "efficientmorl_debug",
    "points_tiny",
)
STEPS = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of each preset, by its name."""
    return found_by_another(train_on_both, tmp_path_factory.mktemp("devices"))


@pytest.mark.parametrize("preset", PRESETS)
def test_an_encoder_has_the_same_numbers_on_a_second_device(found: dict[str, dict[str, Any]], preset: str) -> None:
    here = found[preset]
    assert here.get("error") is None
    assert here["compared"] > 3
    assert here["furthest"] < 5e-3, here["where"]
    assert here["latents apart"] < 1e-4
    assert 0.01 < here["latents"] < 100


@pytest.mark.parametrize("operation", ["add.Tensor", "index_select.default", "index_put_.default"])
def test_the_second_device_refuses_what_cuda_refuses(found: dict[str, dict[str, Any]], operation: str) -> None:
    assert found[operation]["error"].strip().endswith(f"aten.{operation} was given tensors of both devices")


def train_on_both(folder: str) -> None:
    """Train each preset on the CPU and on the second device, and write how far apart they are. Call this in a process of its own."""
    import torch

    from tests.fixtures.second_device import ELSEWHERE

    torch.set_num_threads(1)
    place, there = Path(folder), torch.ones(3, device=ELSEWHERE)
    recording = ["--source", "VoxelForage-v0", "--players", "seeing", "random", "--frames", "4000", "--record", "state"]
    _command("make_frames.py", "build", *recording, "--store", place / "store")
    mixed = {
        "add.Tensor": lambda: there + torch.ones(3),
        "index_select.default": lambda: there.index_select(0, torch.tensor([1])),
        "index_put_.default": lambda: there.index_put_((torch.tensor([1]),), torch.ones(1)),
    }
    write_found([*mixed, *PRESETS], lambda name: mixed[name]() if name in mixed else _apart(place, name, str(ELSEWHERE)), folder)


def _apart(place: Path, preset: str, elsewhere: str) -> dict[str, Any]:
    from safetensors.numpy import load_file

    from wrappers import FrozenEncoder

    options = [] if preset == "pca" else ["--steps", STEPS]
    options += ["--model.critic", place / "critic_debug-cpu"] if preset == "critic_vae_debug" else []
    # from the published start values no latents differ yet
    options += ["--model.start-gain", 1] if preset == "efficientmorl_debug" else []
    options += ["--frames-in", "device"] if preset == "heads_debug" else []
    options += ["--training.batch-size", 4, "--training.validation-frames", 8] if preset == "nvae_debug" else []
    for device in ("cpu", "auto"):
        places = ["--store", place / "store", "--run", place / f"{preset}-{device}"]
        _command("train_encoder.py", preset, *places, "--device", device, "--threads", 1, *options)
    cpu, there = (load_file(place / f"{preset}-{device}" / "encoder.safetensors") for device in ("cpu", "auto"))
    assert cpu.keys() == there.keys()
    # directions of a whitening are free to turn where two variances are alike
    apart = {
        name: float(np.abs(cpu[name] - there[name]).max() / (np.abs(cpu[name]).max() + 1e-3)) for name in cpu if "whitening" not in name
    }
    frozen = [FrozenEncoder(place / f"{preset}-cpu", device) for device in ("cpu", elsewhere)]
    frames = np.random.default_rng(0).integers(0, 256, (3, *frozen[0].frame_shape), np.uint8)
    first, second = (encoder.encode(frames)[0] for encoder in frozen)
    where = max(apart, key=apart.get)
    return {
        "compared": len(apart),
        "furthest": apart[where],
        "where": where,
        "latents": float(np.abs(first).max()),
        "latents apart": float(np.abs(first - second).max()),
    }


def _command(*words: object) -> None:
    """Run a root script in this process; raise `RuntimeError` with what it said where it fails."""
    sys.argv = [str(word) for word in words]
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
        except SystemExit as end:
            if not end.code:
                return
    raise RuntimeError(f"{' '.join(sys.argv)}: {said.getvalue()}")
