"""A control is known as what it is, whatever was said of its reading and scale, and in reports of before that said it in a key alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.run.config import CONTROLS, EvaluationConfig
from comparison.collect import collect
from comparison.comparison import Comparison
from comparison.config import ComparisonConfig, PartConfig
from comparison.encoder_facts import EncoderFacts
from comparison.report.conclusions import conclusions
from comparison.report.files import write_files
from comparison.report.summary import summarise
from comparison.results import read_results
from encoders import StoreReference, make_encoder, prepare
from foundation.places import View, Views
from tests.comparison.rows import PLAYERS, row, task
from tests.comparison.test_comparison import PPO, TASKS

SCALED = "_scale_global-1a2b3c4d"


def control_row(control: str, middle: float, more: str = SCALED, **changes):
    """Return a control's row as a report of before has it, which says in the key alone what it is."""
    return replace(row(control, middle, "control", **changes), key=f"runs/task/ppo/{control}{more}", control=None)


@pytest.mark.parametrize("more", ["", "-1a2b3c4d", SCALED, "_latents_mean_scale_whiten-1a2b3c4d", "-1a2b3c4d@two", "_latents_x-1a2b3c4d"])
@pytest.mark.parametrize("control", CONTROLS)
def test_a_key_of_before_names_its_control(control: str, more: str) -> None:
    assert control_row(control, 1, more).control == control


def test_what_only_begins_like_a_control_is_none() -> None:
    assert control_row("untrainedly", 1).control is None
    assert replace(row("untrained-1", 1), key="runs/task/ppo/untrained-1a2b3c4d").control is None


def test_controls_of_an_encoder_in_another_scale_are_the_gap_its_references_and_what_learns(tmp_path: Path, no_figures) -> None:
    learning = replace(control_row("finetuned", 4), encoder=EncoderFacts("finetuned", [8], 1234, used_parameters=1000))
    rows = (row("vae", 5), control_row("untrained", 3), control_row("oracle", 11, ""), control_row("supervised", 9), learning)
    found = summarise([task(*rows, *PLAYERS)])[0]
    assert {one.label: one.gap_closed.value for one in found.rows if one.gap_closed} == pytest.approx(
        {"vae": 0.25, "untrained": 0, "oracle": 1, "supervised": 0.75, "finetuned": 0.125}
    )
    said = conclusions(found)
    assert "References, no rivals: oracle (told the answers) and supervised (trained on the answers)." in said
    assert said[0].startswith("vae ")
    assert "supervised" not in said[0]
    assert next(one.row.frozen_parameters for one in found.rows if one.label == "finetuned") == 0
    write_files(tmp_path, [task(*rows, *PLAYERS)], "the command")
    lines = json.loads((tmp_path / "comparison.json").read_text())["results"][0]["rows"]
    assert [line["control"] for line in lines][:3] == [None, "untrained", "oracle"]


def test_a_report_says_which_control_a_row_is_and_one_of_before_is_read(tmp_path: Path, no_figures) -> None:
    named = replace(row("untrained", 3, "control"), key="another name", control="untrained")
    write_files(tmp_path, [task(named, control_row("pixels_same", 4))], "the command")
    assert [one.control for one in read_results(tmp_path)[0].rows] == ["untrained", "pixels_same"]
    path = tmp_path / "comparison.json"
    content = json.loads(path.read_text())
    for line in content["results"][0]["rows"]:
        del line["control"]
    path.write_text(json.dumps(content))
    assert [one.control for one in read_results(tmp_path)[0].rows] == [None, "pixels_same"]


def test_rows_of_a_comparison_are_the_controls_that_were_asked_for(worlds, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "encoder", store=store)
    asked = ComparisonConfig(
        environment=TASKS["short"],
        algorithm=PPO,
        evaluation=EvaluationConfig(every=32, episodes=1, final_episodes=1),
        encoders=(Views((View(tmp_path / "encoder", scale="global"),)),),
        controls=CONTROLS,
        steps=32,
        seeds=1,
        run=tmp_path / "comparison",
    )
    [found] = collect(Comparison([PartConfig("short", "ppo", asked, PPO)]), "the command", {})
    assert tuple(one.control for one in found.rows if one.kind == "control") == CONTROLS
    assert {one.control for one in found.rows if one.kind != "control"} == {None}
