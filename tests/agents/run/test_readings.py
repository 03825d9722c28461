"""Which of an encoder's readings an agent sees: the encoder's own choice, or the one the user names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.run.representation import reading_line
from agents.run.training import train_agent
from encoders import StoreReference, load_encoder, make_encoder, prepare
from foundation.errors import UserError
from pretraining.controls import control_artifact


@pytest.fixture(scope="module")
def hierarchical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small NVAE whose default reading is `pooled`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hierarchical")
    model = make_encoder("nvae_debug")
    model.prefer("pooled")
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    prepare(model, frames, folder, store=StoreReference("a/store", "f", 20.0, "squash"))
    return folder


def test_a_run_says_and_records_the_reading_it_uses(small_run, hierarchical: Path) -> None:
    assert "latents 'pooled', 12 numbers a frame, its default; it also has top, coarse, top_down" in reading_line(hierarchical)
    assert "latents 'coarse'" in reading_line(hierarchical, "coarse")
    result = train_agent(small_run(control=None, encoder=hierarchical, steps=32), lambda steps, note: False)
    assert (result["encoder"]["reading"], result["encoder"]["latents"]) == ("pooled", [12])


def test_a_reading_that_is_named_wins(small_run, hierarchical: Path) -> None:
    result = train_agent(small_run(control=None, encoder=hierarchical, latents="top_down", steps=32), lambda steps, note: False)
    assert (result["encoder"]["reading"], result["encoder"]["latents"]) == ("top_down", [32])
    with pytest.raises(UserError, match="no latents named 'bottom'; this encoder has: pooled, top"):
        reading_line(hierarchical, "bottom")


def test_an_untrained_control_mirrors_the_reading(hierarchical: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (16, 1, 64, 64, 3), np.uint8)
    reference = load_encoder(hierarchical).info.store
    monkeypatch.setattr("pretraining.controls._training_frames", lambda *_: (_Seen(frames), reference))
    assert control_artifact("untrained", hierarchical, tmp_path / "own", 0).model.reading(None) == "pooled"
    assert control_artifact("untrained", hierarchical, tmp_path / "named", 0, latents="top").model.reading(None) == "top"


class _Seen:
    actions = None

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
