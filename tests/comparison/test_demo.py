"""The demo names the product's own commands; a renamed option must not break it unnoticed."""

import subprocess
import sys
from pathlib import Path

import pytest

from agents.run.options import read_command
from comparison import demo
from comparison.config import ComparisonConfig
from evaluation.registry import registered_judges
from foundation.errors import UserError
from foundation.presets import build, preset_names, read_preset

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("preset", preset_names("demo"))
def test_every_demo_asks_for_what_the_comparison_understands(preset, tmp_path):
    config = build(demo.Demo, {**read_preset("demo", preset), "run": str(tmp_path)})
    script, *options = config.commands()["Train agents and compare"]
    assert (ROOT / script).is_file()
    comparison = read_command(ComparisonConfig, "", options)
    assert comparison.steps == config.agent_steps
    assert comparison.evaluation.every == config.evaluation_every
    assert set(comparison.controls) == {"pixels", "untrained", "pca"}


def test_the_demos_name_judges_that_there_are_for_encoders_that_they_train():
    for preset in preset_names("demo"):
        config = build(demo.Demo, {**read_preset("demo", preset), "run": "out"})
        assert config.judges.keys() <= config.encoders.keys()
        assert {name for names in config.judges.values() for name in names} <= registered_judges().keys()


def test_recordings_take_the_place_of_the_voxel_world(tmp_path):
    config = build(demo.Demo, {**read_preset("demo", "voxel"), "run": str(tmp_path), "recordings": str(tmp_path)})
    collect = config.commands()["Collect frames"]
    assert collect[collect.index("--source") + 1] == str(tmp_path)
    assert "--frames" not in collect


def made(**changes) -> demo.Demo:
    values = {**read_preset("demo", "voxel"), "run": "out", "encoders": {"conv_vae_tiny": 2500, "mine/points.yaml": 300}}
    return build(demo.Demo, {**values, **changes})


def test_several_encoders_are_pretrained_evaluated_and_compared():
    stages = made(record=["state"], judges={"mine/points.yaml": ["probes"]}).commands()
    assert list(stages) == [
        "Collect frames",
        "Pretrain conv_vae_tiny",
        "Pretrain mine/points.yaml",
        "Evaluate conv_vae_tiny",
        "Evaluate mine/points.yaml",
        "Train agents and compare",
    ]
    assert stages["Collect frames"][-4:] == ["--record", "state", "--store", "out/frames"]
    trained = stages["Pretrain mine/points.yaml"]
    assert trained[:6] == ["train_encoder.py", "mine/points.yaml", "--store", "out/frames", "--run", "out/encoders/points"]
    assert trained[-2:] == ["--steps", "300"]
    assert stages["Evaluate mine/points.yaml"] == [
        "evaluate_encoder.py",
        "out/encoders/points",
        "--store",
        "out/frames",
        "--judges",
        "probes",
    ]
    compared = read_command(ComparisonConfig, "", stages["Train agents and compare"][1:])
    assert [str(folder) for folder in compared.encoders] == ["out/encoders/conv_vae_tiny", "out/encoders/points"]


def test_one_encoder_takes_the_place_of_all():
    assert made(encoder="nvae_tiny").pretrained() == {"nvae_tiny": None}
    assert made(encoder="nvae_tiny", encoder_steps=7).pretrained() == {"nvae_tiny": 7}
    assert made(encoder="conv_vae_tiny").pretrained() == {"conv_vae_tiny": 2500}
    assert "--steps" not in made(encoder="nvae_tiny").commands()["Pretrain nvae_tiny"]
    # of what recordings hold, nothing but pictures is sure
    assert made(recordings="films").pretrained() == {"conv_vae_tiny": 2500}


def test_another_seed_is_another_demo_from_beginning_to_end():
    collect, pretrain, *_, compare = made(seed=2, seeds=3).commands().values()
    assert [words[words.index("--seed") + 1] for words in (collect, pretrain)] == ["2", "2"]
    assert compare[compare.index("--first-seed") + 1] == "6"


def test_a_missing_folder_of_recordings_is_named_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        demo.demonstrate(["--run", str(tmp_path / "run"), "--recordings", str(tmp_path / "none")])
    assert not (tmp_path / "run").exists()


def test_a_stopped_demo_waits_until_its_stage_has_saved(tmp_path):
    stage = "import signal, sys, time\n"
    stage += "def save(*_):\n    time.sleep(0.5); print('saved', flush=True); sys.exit(143)\n"
    stage += "signal.signal(signal.SIGTERM, save); print('ready', flush=True); time.sleep(60)\n"
    (tmp_path / "stage.py").write_text(stage)
    code = "import sys; from pathlib import Path; from comparison import demo; demo.ROOT = Path(sys.argv[1])\n"
    code += "sys.exit(demo.run_stage(['stage.py']))"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=30)[0] == "saved\n"
    assert process.returncode == 143
