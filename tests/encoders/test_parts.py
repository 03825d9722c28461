"""A critic on another encoder's feature maps, and a VAE on a critic, hold what they stand on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders import Batch, Encoder, StoreReference, check_encoder, load_encoder, make_encoder, make_on_top, prepare, save_encoder
from encoders.artifact import reading_statistics
from encoders.critic.model import LABEL, Critic
from encoders.training.validation import match_statistics
from foundation.errors import UserError
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer

FRAMES = np.random.default_rng(0).integers(0, 256, (80, 64, 64, 3), np.uint8)
TARGETS = {LABEL: torch.tensor([[0.9], [0.1], [0.2]])}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of untrained encoders that others can stand on, or not."""
    folder, store = tmp_path_factory.mktemp("runs"), StoreReference("some/store", "f1", 20.0, "squash")
    torch.manual_seed(0)
    for name in ("debug", "nvae_debug", "critic_debug", "pca"):
        model = make_encoder(name).eval()
        prepare(model, FRAMES, folder / name, store=store)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["debug", "nvae_debug", "critic_debug"])
def test_a_critic_stands_on_another_encoder_s_maps(runs: dict[str, Path], kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = make_on_top("critic_debug", features=str(runs[kind]), value_steps=0)
    check_encoder(model, TARGETS)
    theirs = load_encoder(runs[kind]).model
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for own, given in zip(model.feature_maps(x), [one for one in theirs.feature_maps(x) if one.shape[2] < 64], strict=True):
            assert torch.allclose(own, given, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.features.parameters())
    assert not model.train().features.training
    _kept_without_the_folder(model, tmp_path)


def test_a_vae_stands_on_a_critic(runs: dict[str, Path], tmp_path: Path) -> None:
    model = make_on_top("critic_vae_debug", critic=str(runs["critic_debug"]))
    check_encoder(model)
    frames = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.value(frames), load_encoder(runs["critic_debug"]).model.value(frames), atol=1e-6)
    _kept_without_the_folder(model, tmp_path)


def _kept_without_the_folder(model: Encoder, folder: Path) -> None:
    model.eval()
    statistics = reading_statistics(model, FRAMES[:8])
    save_encoder(folder / "saved", model, statistics, StoreReference("some/store", "f1", 20.0, "squash"))
    shutil.copytree(folder / "saved", folder / "moved")
    again = load_encoder(folder / "moved").model
    x = torch.from_numpy(FRAMES[:3]).movedim(-1, 1) / 255
    with torch.no_grad():
        assert torch.allclose(model.encode(x, {})[0], again.encode(x, {})[0], atol=1e-6)


def test_frozen_batch_statistics_stay_as_they_are(runs: dict[str, Path]) -> None:
    model = make_on_top("critic_debug", features=str(runs["nvae_debug"]), value_steps=0)
    before = {name: buffer.clone() for name, buffer in model.features.named_buffers()}
    model.train().loss(Batch(torch.rand(3, 1, 3, 64, 64), None, TARGETS), 5)
    match_statistics(model, [Batch(torch.from_numpy(FRAMES[:4, None]))], 0, torch.device("cpu"))
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.features.named_buffers())


@pytest.mark.parametrize(
    ("preset", "options", "said"),
    [
        ("critic_debug", {"features": "pca"}, "no feature maps"),
        ("critic_debug", {"features": "debug", "frame_shape": [32, 32, 3]}, r"takes frames of \(64, 64, 3\), the critic of \(32, 32, 3\)"),
        ("critic_vae_debug", {"critic": "debug"}, "gives no value"),
        ("critic_vae_debug", {"critic": "nothing"}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(runs: dict[str, Path], preset: str, options: dict, said: str) -> None:
    named = {name: str(runs.get(value, value)) if name in ("features", "critic") else value for name, value in options.items()}
    with pytest.raises(UserError, match=said) as told:
        make_on_top(preset, **named)
    assert "\n" not in str(told.value)


def test_frames_that_were_resized_in_another_way_are_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"--model.features .*'squash', those of the store by 'crop'"):
        make_on_top("critic_debug", "crop", features=str(runs["debug"]))


@pytest.fixture(scope="module")
def rewarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which a bright square in the frame is worth a reward at the recording's end."""
    path = tmp_path_factory.mktemp("rewarded") / "store"
    with store_writer(path, {"source": "a test"}, (32, 32, 3)) as writer:
        for number in range(4):
            pictures = np.random.default_rng(number).integers(0, 90, (60, 32, 32, 3), np.uint8)
            pictures[40:, 8:20, 8:20] = 255
            rewards = np.zeros(59, np.float32)
            rewards[-1] = 1
            arrays = {"reward": rewards}
            writer.add(f"recording {number}", pictures, source="a test", frames_per_second=20.0, arrays=lambda arrays=arrays: arrays)
        names = [f"recording {number}" for number in range(4)]
        splits = {name: "train" if number else "val" for number, name in enumerate(names)}
        writer.finish(lambda names: assign_splits(names, given=splits), {"resize": "squash", "left_out": []})
    return path


def test_the_commands_train_a_critic_and_then_a_vae_on_it(command: Callable[..., int], rewarded: Path, tmp_path: Path) -> None:
    always = ("--store", rewarded, "--threads", 1, "--device", "cpu", "--model.frame-shape", 32, 32, 3)
    assert command("train_encoder.py", "critic_debug", *always, "--run", tmp_path / "critic", "--steps", 24, "--model.gamma", 0.9) == 0
    trained = load_encoder(tmp_path / "critic")
    assert trained.info.validation["objective"] > 0
    assert isinstance(trained.model, Critic)
    steps = [json.loads(line) for line in (tmp_path / "critic" / "metrics.jsonl").read_text().splitlines()]
    assert {"validation/replace", "validation/value_loss", "validation/objective"} <= steps[-1].keys()
    vae = ("critic_vae_debug", *always, "--run", tmp_path / "vae", "--model.critic", tmp_path / "critic")
    assert command("train_encoder.py", *vae, "--steps", 2) == 0
    assert command("train_encoder.py", *vae, "--steps", 4) == 0
    shutil.rmtree(tmp_path / "critic")
    told = load_encoder(tmp_path / "vae").info
    assert told.steps == 4
    assert trained.info.store.saw == ("rewards",)
    assert told.store.saw == (f"its critic ({trained.info.card})",)


def test_a_store_with_too_few_frames_of_high_value_is_refused(
    command: Callable[..., int], rewarded: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command("train_encoder.py", "critic", "--store", rewarded, "--run", tmp_path / "run", "--model.frame-shape", 32, 32, 3) == 2
    assert "500 of each are needed" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
