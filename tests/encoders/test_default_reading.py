"""Which latents an agent gets when it names none: what validation found informative, written into the artifact."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders import Placement, StoreReference, TrainingData, load_encoder, make_encoder, prepare, train
from encoders.nvae.model import NVAE
from encoders.training.config import TrainingConfig
from encoders.training.validation import activity, collapse_verdict, is_collapsed
from foundation.errors import UserError

SMALL = {
    "frame_shape": [16, 16, 3],
    "encoder_channels": 4,
    "decoder_channels": 4,
    "blocks": 1,
    "preprocess_cells": 1,
    "postprocess_cells": 1,
    "scales": 2,
    "groups": 2,
    "adaptive_groups": True,
    "latent_channels": 4,
    "mixtures": 2,
    "coarse_scales": 2,
}
LIVELY, SILENT = torch.ones(4), torch.zeros(4)


def small(**changes: object) -> NVAE:
    torch.manual_seed(0)
    return make_encoder("nvae", **{**SMALL, **changes})  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kl", "reading"),
    [([LIVELY, SILENT, SILENT], "top"), ([SILENT, LIVELY, LIVELY], "coarse"), ([SILENT, SILENT, SILENT], "pooled")],
)
def test_a_preset_that_names_no_reading_gets_the_informative_one(kl: list[torch.Tensor], reading: str) -> None:
    assert small().informative_reading({"pooled": torch.cat(kl)}) == reading
    assert small(default_latents="top").informative_reading({"pooled": torch.cat(kl)}) == "top"


def test_one_measure_recommends_a_reading_and_tells_collapse() -> None:
    model, silent = small(), np.zeros(12)
    kl = np.array([*silent[:4], *(1.0, 1.0, 1.0, 0.0), *(0.2, 0.2, 0.2, 0.2)])
    units = {"top": kl[:4], "coarse": kl, "pooled": kl}
    given = model.kl_per_unit(torch.rand(2, 1, 3, 16, 16))
    assert {name: len(found) for name, found in given.items()} == {"top": 4, "coarse": 12, "pooled": 12}
    model.prefer(model.informative_reading({name: torch.from_numpy(found) for name, found in units.items()}))
    found = activity(model, units)
    first, second, _ = collapse_verdict(model, found).split("\n")
    assert first.startswith("Not collapsed: 7 of 12 channels of 'coarse' are active (mean KL above 0.1 nats)")
    assert second.startswith("0 of 4 channels of 'top' are active")
    assert not is_collapsed(model, found)
    # the same groups, and an agent that is given the silent one
    model.prefer("top")
    assert is_collapsed(model, found)
    said = collapse_verdict(model, found).split("\n")[0]
    assert said.startswith("COLLAPSED: only 0 of 4 channels of 'top'")
    assert "model.beta" not in said


def test_an_artifact_keeps_its_default_reading(tmp_path: Path, frames: np.ndarray, store: StoreReference) -> None:
    model = small()
    model.prefer("pooled")
    assert list(model.latents) == ["pooled", "top", "coarse", "top_down"]
    prepare(model, frames[:32], tmp_path, store=store)
    assert load_encoder(tmp_path).model.reading(None) == "pooled"
    with pytest.raises(ValueError, match="no latents named 'bottom'"):
        model.prefer("bottom")


def test_readings_of_another_architecture_are_refused(tmp_path: Path, frames: np.ndarray, store: StoreReference) -> None:
    prepare(small(), frames[:32], tmp_path, store=store)
    info = json.loads((tmp_path / "encoder.json").read_text())
    info["latents"] = {"mean": [4]}
    (tmp_path / "encoder.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"encoder\.json: has the readings mean, a 'nvae' has top, coarse, pooled, top_down"):
        load_encoder(tmp_path)


def test_training_ends_with_the_informative_reading_as_the_default_and_says_so(
    tmp_path: Path, frames: np.ndarray, store: StoreReference, fake_batches: type, capsys: pytest.CaptureFixture
) -> None:
    batches, sample = fake_batches(frames[:192], 8), next(fake_batches(frames[192:], 16))
    model = small()
    # the first group says nothing whatever the frame; the others have everything to say
    with torch.no_grad():
        model.groups[0].posterior_head.log_gain.fill_(-20)
        model.groups[0].posterior_head.bias.zero_()
    model.groups[0].posterior_head.requires_grad_(False)
    config = TrainingConfig(batch_size=8, learning_rate=1e-3, validation_every=2, checkpoint_every=2)
    data = TrainingData(batches, lambda: [sample], lambda: sample, store)
    artifact = train(model, data, tmp_path, config, steps=2, placement=Placement(device="cpu", threads=1))
    default = artifact.model.reading(None)
    assert default != "top"
    said = capsys.readouterr().err
    assert f"agents get the latents '{default}' by default" in said
    assert "\\n" not in said
    assert next(iter(json.loads((tmp_path / "encoder.json").read_text())["latents"])) == default
