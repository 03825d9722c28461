"""Heads from the command line: trained on a store's labels, resumed bit for bit, refused where the store lacks them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from encoders import load_encoder
from encoders.heads import value_giver
from encoders.training.state import read_resume
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer

Command = Callable[..., int]
SPLITS = {"one": "train", "two": "train", "random": "train", "held out": "val"}
PRESET: dict[str, Any] = {
    "encoder": "evidence",
    "steps": 6,
    "model": {"frame_shape": [16, 16, 3], "encoder": "4k4s4 8k3s1", "maps": 2},
    "training": {"batch_size": 8, "ema_decay": 0.9, "validation_every": 3, "validation_frames": 16, "checkpoint_every": 3, "log_every": 1},
    "heads": {"hidden": 4, "actions": {"weight": 1.0, "count": 2, "reading": "points"}, "value": {"weight": 1.0, "reading": "evidence"}},
}


def write_store(path: Path, with_actions: bool = True, with_rewards: bool = True) -> Path:
    """Write recordings of squares that wander: what moves them is the action, and where they arrive pays."""
    with store_writer(path, {"source": "a test"}, (16, 16, 3)) as writer:
        for number, name in enumerate(SPLITS):
            random = np.random.default_rng(number)
            places = np.cumsum(random.integers(-1, 2, 40)) % 12
            pictures = np.zeros((40, 16, 16, 3), np.uint8)
            for picture, place in zip(pictures, places, strict=True):
                picture[4:8, place : place + 4] = 255
            moved = np.diff(places).astype(np.float32)
            arrays: dict[str, np.ndarray] = {}
            if with_actions:
                arrays |= {"action.attack": (moved > 0).astype(np.int64), "action.camera": np.stack([moved, 3 * moved], 1)}
            if with_rewards:
                arrays["reward"] = (places[1:] % 6 == 0).astype(np.float32)
            player = "random" if name == "random" else "ScriptedPlayer"
            writer.add(
                name,
                pictures,
                source=f"Squares-v0, {player}",
                task="Squares-v0",
                frames_per_second=20.0,
                arrays=lambda arrays=arrays: arrays,
            )
        writer.finish(lambda names: assign_splits(names, given=SPLITS), {"resize": "squash", "left_out": []})
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("squares") / "store")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "squares.yaml"
    path.write_text(yaml.safe_dump(PRESET))
    return path


def short(preset: Path | str, store: Path, run: Path) -> list[object]:
    return ["train_encoder.py", preset, "--store", store, "--run", run, "--threads", 1, "--device", "cpu"]


def test_heads_are_trained_logged_drawn_and_kept(command: Command, preset: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    assert command(*short(preset, store, tmp_path)) == 0
    assert "validation objective" in capsys.readouterr().err
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"train/heads_actions", "train/heads_value", "train/objective"} <= records[0].keys()
    assert {"validation/heads_value", "validation/heads_value_auc", "validation/heads_actions_numbers_r2"} <= records[-1].keys()
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["heads.png"]
    artifact = load_encoder(tmp_path)
    assert value_giver(artifact.model) is not None
    assert artifact.info.store.tasks == ("Squares-v0",)
    assert artifact.info.store.saw == ("actions of ScriptedPlayer", "rewards")
    described = artifact.info.heads
    assert described is not None
    columns = [(column["name"], column["kind"]) for column in described["recorded"]["actions"]]
    assert columns == [("action.attack", "key"), ("action.camera[0]", "number"), ("action.camera[1]", "number")]
    best = min(records, key=lambda record: record.get("validation/objective", np.inf))
    assert artifact.info.validation["step"] == best["step"]


def test_a_run_with_heads_goes_on_bit_for_bit_wherever_its_frames_are(command: Command, preset: Path, store: Path, tmp_path: Path) -> None:
    assert command(*short(preset, store, tmp_path / "straight")) == 0
    assert command(*short(preset, store, tmp_path / "stopped"), "--steps", 4) == 0
    assert command(*short(preset, store, tmp_path / "stopped")) == 0
    assert command(*short(preset, store, tmp_path / "held"), "--frames-in", "device") == 0
    straight, stopped, held = (read_resume(tmp_path / name) for name in ("straight", "stopped", "held"))
    for part in ("model", "averaged"):
        assert any(name.startswith("heads.") for name in straight[part])
        assert all(torch.equal(tensor, stopped[part][name]) for name, tensor in straight[part].items())
        assert all(torch.equal(tensor, held[part][name]) for name, tensor in straight[part].items())


def test_the_best_of_a_run_from_before_unknown_labels_stopped_counting_is_measured_again(
    command: Command, preset: Path, store: Path, tmp_path: Path, capsys: Any
) -> None:
    assert command(*short(preset, store, tmp_path / "straight")) == 0
    assert command(*short(preset, store, tmp_path / "older"), "--steps", 4) == 0
    content = torch.load(tmp_path / "older" / "resume.pt", weights_only=True)
    measured = content["best"]["metrics"]["objective"]
    del content["by_count"]
    # batches without labels, at a loss of 0 each: no validation comes as low again
    content["best"]["metrics"]["objective"] = measured / 10
    torch.save(content, tmp_path / "older" / "resume.pt")
    capsys.readouterr()
    assert command(*short(preset, store, tmp_path / "older")) == 0
    assert f"the best weights so far, of step {content['best']['step']}, were validated again" in capsys.readouterr().err
    older, straight = (read_resume(tmp_path / name)["best"] for name in ("older", "straight"))
    assert (older["step"], older["metrics"]) == (straight["step"], straight["metrics"])
    assert command(*short(preset, store, tmp_path / "older"), "--steps", 7) == 0
    assert "validated again" not in capsys.readouterr().err


def test_other_heads_are_another_run(command: Command, preset: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    assert command(*short(preset, store, tmp_path)) == 0
    capsys.readouterr()
    assert command(*short(preset, store, tmp_path), "--heads.actions.weight", 0.5) == 2
    assert "was started with heads.actions.weight=1.0, now it is 0.5" in capsys.readouterr().err


def test_a_run_of_before_there_were_heads_goes_on(command: Command, store: Path, tmp_path: Path) -> None:
    model = {"frame_shape": [16, 16, 3], "latent_dim": 4, "encoder": "4k4s4", "decoder": "4 k4s4", "linear_stem": False}
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(PRESET | {"encoder": "conv_vae", "model": model, "heads": {}}))
    assert command(*short(plain, store, tmp_path / "run"), "--steps", 4) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert "heads" not in config
    for name in ("points", "evidence"):
        del config["model"][name]
    for name in ("tasks", "saw"):
        del config["store"][name]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    info = json.loads((tmp_path / "run" / "encoder.json").read_text())
    del info["heads"], info["store"]["tasks"], info["store"]["saw"]
    (tmp_path / "run" / "encoder.json").write_text(json.dumps(info))
    assert load_encoder(tmp_path / "run").info.heads is None
    assert command(*short(plain, store, tmp_path / "run")) == 0
    assert command(*short(plain, store, tmp_path / "straight")) == 0
    one, other = (read_resume(tmp_path / name)["model"] for name in ("run", "straight"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_heads_may_be_put_on_the_weights_of_a_run_without(command: Command, preset: Path, store: Path, tmp_path: Path) -> None:
    assert command(*short(preset, store, tmp_path / "first"), "--heads.actions.weight", 0) == 0
    assert command(*short(preset, store, tmp_path / "second"), "--weights", tmp_path / "first", "--steps", 1) == 0
    names = read_resume(tmp_path / "second")["model"].keys()
    assert any(name.startswith("heads.by_name.actions") for name in names)


def test_heads_of_another_shape_say_which_options_differ(command: Command, preset: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    assert command(*short(preset, store, tmp_path / "first"), "--steps", 1) == 0
    assert command(*short(preset, store, tmp_path / "second"), "--weights", tmp_path / "first", "--heads.actions.count", 4) == 2
    assert "give the --heads options that the other run has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lacks", "options", "said"),
    [
        ("actions", [], "has no actions"),
        ("rewards", ["--heads.actions.weight", 0], "reward"),
        ("nothing", ["--heads.value.reading", "mean"], "heads.value.reading: no latents named 'mean'"),
        ("nothing", ["--heads.state.weight", 1], "has no state"),
        ("nothing", ["--heads.value.weight", 0, "--heads.actions.weight", 0], "a 'evidence' learns from heads alone"),
        ("nothing", ["--training.flip", "True"], "'next_actions' would be wrong beside a mirrored frame"),
    ],
)
def test_what_heads_cannot_have_is_one_line(
    command: Command, preset: Path, store: Path, tmp_path: Path, capsys: Any, lacks: str, options: list[object], said: str
) -> None:
    chosen = store
    if lacks != "nothing":
        chosen = write_store(tmp_path / "lacking", with_actions=lacks != "actions", with_rewards=lacks != "rewards")
    capsys.readouterr()
    assert command(*short(preset, chosen, tmp_path / "run"), *options) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "\n" not in printed
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("unpaid", "said"),
    [
        ("one", "split 'train'"),
        ("held out", "split 'val'"),
        (None, ""),
        ("nobody held out", "has no recordings in split 'val', and an encoder is validated on such; build one with --val"),
    ],
)
def test_a_critic_needs_frames_of_high_and_low_value_where_it_learns_and_where_it_is_validated(
    command: Command, tmp_path: Path, capsys: Any, unpaid: str | None, said: str
) -> None:
    with store_writer(tmp_path / "store", {"source": "a test"}, (64, 64, 3)) as writer:
        for name in ("one", "two" if unpaid == "nobody held out" else "held out"):
            paid = np.zeros(99, np.float32)
            paid[70] = name != unpaid
            pictures, arrays = np.zeros((100, 64, 64, 3), np.uint8), {"reward": paid}
            writer.add(name, pictures, source=name, frames_per_second=20.0, arrays=lambda arrays=arrays: arrays)
        writer.finish(lambda names: {name: SPLITS[name] for name in names}, {"resize": "squash", "left_out": []})
    status = command(*short("critic_debug", tmp_path / "store", tmp_path / "run"), "--steps", 1, "--model.value-steps", 1)
    told = " ".join(capsys.readouterr().err.split())
    assert status == (0 if unpaid is None else 2), told
    if unpaid is not None:
        assert said in told
        assert not (tmp_path / "run").exists()
