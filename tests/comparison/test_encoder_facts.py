"""What a report says of a row's encoder: speed, latents, collapse, what it learned from, and how good its heads are."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison import encoder_facts as facts_module
from comparison.encoder_facts import EncoderFacts, SpeedCache, encoder_facts
from comparison.report.files import write_files
from encoders import StoreReference, make_encoder, prepare
from tests.comparison.rows import PLAYERS, row, task


def test_an_encoder_is_measured_once_for_its_weights(tmp_path: Path, monkeypatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "encoder", store=store)
    measured = []
    real = facts_module.measure_speed
    monkeypatch.setattr(facts_module, "measure_speed", lambda *about: measured.append(about) or real(*about))
    result = {
        "encoder": {"name": "conv_vae", "reading": "mean", "latents": [16]},
        "encoder_parameters": 5,
        "encoder_folder": str(tmp_path / "encoder"),
        "device": {"encoder": "cpu"},
        "threads": 1,
    }
    first = encoder_facts(result, 4, SpeedCache(tmp_path / "speed.json"))
    again = encoder_facts(result, 4, SpeedCache(tmp_path / "speed.json"))
    assert first == again
    assert len(measured) == 1
    assert first
    assert first.speed
    assert first.speed.batch == 4
    assert first.speed.milliseconds > 0
    gone = encoder_facts({**result, "encoder_folder": str(tmp_path / "moved")}, 4, SpeedCache(tmp_path / "speed.json"))
    assert gone
    assert gone.speed is None


@pytest.mark.parametrize(("reading", "shape"), [("slots", [3, 13]), ("slots_flat", [39]), ("masks", [3, 8, 8])])
def test_a_row_on_slots_tells_of_its_encoder_in_whichever_reading(reading: str, shape: list[int], tmp_path: Path, no_figures) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    made = prepare(make_encoder("efficientmorl_debug", frame_shape=[32, 32, 3]), frames, tmp_path / "encoder", store=store)
    about = {"name": "efficientmorl", "reading": reading, "latents": shape}
    where = {"encoder_folder": str(tmp_path / "encoder"), "device": {"encoder": "cpu"}, "threads": 1}
    found = encoder_facts({"encoder": about, "encoder_parameters": 5, **where}, 2, SpeedCache(tmp_path / "speed.json"))
    assert found
    assert list(made.model.latents[reading]) == shape == found.latents
    assert (found.speed is not None, found.generates) == (True, True)
    for active, collapsed in ((0, True), (8, False)):
        info = replace(made.info, validation={"active_units_slots": active})
        assert facts_module.has_collapsed(made.model, info, reading) is collapsed
    slots = row("slots", 5)
    write_files(tmp_path, [task(replace(slots, encoder=found), row("pixels", 5, "control"), *PLAYERS)], "the command")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert rows[0]["latents"] == f"{np.prod(shape)}"


def test_collapse_is_judged_by_the_share_of_active_units(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    made = prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path, store=store)
    for active, collapsed in ((1, True), (2, False)):
        info = replace(made.info, validation={"active_units_mean": active, "bits_per_dim": 1.0})
        assert facts_module.has_collapsed(made.model, info) is collapsed
    assert facts_module.has_collapsed(made.model, replace(made.info, validation={"objective": 1.0})) is None


def test_an_encoder_says_what_it_learned_from_and_how_good_its_heads_are(tmp_path: Path, no_figures) -> None:
    made = EncoderFacts("points", [48], 1234, trained_steps=4000, learned_from="frames, rewards of VoxelTreechop-v0")
    write_files(tmp_path, [task(replace(row("points", 5), encoder=made), *PLAYERS)], "the command")
    assert "<td>frames, rewards of VoxelTreechop-v0</td>" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][0]["learned_from"] == "frames, rewards of VoxelTreechop-v0"
    found = {"objective": 0.71, "heads_value": 0.4, "heads_value_auc": 0.912, "heads_actions_numbers_r2": 0.25}
    assert facts_module.validation_line(replace(made, validation=found)) == "value AUC 0.91, actions numbers R² 0.25"
    assert facts_module.validation_line(replace(made, validation={"objective": 0.71})) == "objective 0.71"
