"""--geco suggest: the target that a run's plateau suggests, as the published heuristic has it; and slots that memory cannot hold."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters
from foundation.errors import UserError
from foundation.presets import to_dict
from pretraining.geco_target import suggestion

MODEL = EfficientMORLHyperparameters(frame_shape=(35, 35, 3), sigma=0.3)


def recorded(run: Path, values: list[float], **model: object) -> Path:
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"model": to_dict(MODEL) | model}))
    lines = [json.dumps({"step": 50 * (index + 1), "train/nll": value, "train/kl": 20.0}) for index, value in enumerate(values)]
    (run / "metrics.jsonl").write_text("\n".join([json.dumps({"step": 1, "validation/nll": 3.0}), *lines, '{"step": 99, "tr']))
    return run


def falling(to: float, count: int = 100) -> list[float]:
    return [to + 3000.0 * 0.8**index + (5.0, 0.0, -5.0)[index % 3] for index in range(count)]


def test_the_target_is_1500_nats_below_the_plateau_over_all_pixels_and_channels(tmp_path: Path) -> None:
    found = suggestion(recorded(tmp_path / "run", falling(-2000.0)), "efficientmorl", MODEL)
    # (-2,000 - 1,500) / 3,675, whose squared error is 2 * 0.09 * (-0.952 + 1.204)
    assert "negative log-likelihood -2,000 nats a frame, the median of steps 3,800 to 5,000" in found
    assert "--model.geco True --model.geco-target -0.952: 1,500 nats lower" in found
    assert "(-0.816 to -1.088 for 1,000 to 2,000)" in found
    assert "met at a PSNR of 13.4 dB" in found
    assert "no plateau" not in found


def test_a_target_that_no_picture_meets_is_said_to_be_one(tmp_path: Path) -> None:
    """The published target for Tetrominoes is: -1.224, where the logarithm of 0.3 is -1.204."""
    found = suggestion(recorded(tmp_path / "run", falling(-2998.2)), "efficientmorl", MODEL)
    assert "--model.geco-target -1.224" in found
    assert "no picture does better than -1.204" in found


def test_what_still_falls_is_no_plateau(tmp_path: Path) -> None:
    found = suggestion(recorded(tmp_path / "run", [-60.0 * index for index in range(100)], geco=True), "efficientmorl", MODEL)
    assert "this is no plateau yet: it was" in found
    assert "this run has learned with GECO" in found


def test_what_tells_nothing_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run; train there without GECO first"):
        suggestion(tmp_path / "nothing", "efficientmorl", MODEL)
    with pytest.raises(UserError, match="has 15 records of its likelihood, 16 are needed; train on"):
        suggestion(recorded(tmp_path / "short", falling(0.0, 15)), "efficientmorl", MODEL)
    with pytest.raises(UserError, match="a 'conv_vae' has no GECO"):
        suggestion(tmp_path / "short", "conv_vae", SimpleNamespace())


def test_the_command_says_it_and_trains_nothing(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = recorded(tmp_path / "run", falling(-2000.0))
    words = ["train_encoder.py", "efficientmorl_tetrominoes", "--store", tmp_path / "no store needed", "--run", run]
    assert command(*words, "--geco", "suggest") == 0
    said = capsys.readouterr().err
    assert "--model.geco-target -0.952" in said
    # what is to be copied is not glued to the sentence before
    assert "\\n" not in said
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "metrics.jsonl"]


def test_slots_that_memory_cannot_hold_are_refused_before_anything_is_written(
    command: Callable[..., int],
    video_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pretraining.training.free_memory", lambda: 8 * 2**30)
    words = ["train_encoder.py", "efficientmorl_debug", "--store", video_store, "--run", tmp_path / "run", "--device", "cpu"]
    assert command(*words, "--model.slots", 60_000) == 2
    printed = capsys.readouterr().err.strip()
    assert "a training step of 4 clips takes about" in printed
    assert "give fewer --model.slots" in printed
    assert not (tmp_path / "run").exists()
