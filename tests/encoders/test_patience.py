"""A run out of patience ends with its best weights, and it ends there too when it was stopped and resumed on the way."""

import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import EncoderArtifact, load_encoder
from encoders.training import loop
from encoders.training.config import TrainingConfig
from encoders.training.state import read_resume
from foundation.errors import UserError

Train = Callable[..., EncoderArtifact]
EVERY = 3


def last_step(losses: Sequence[float], patience: int, steps: int) -> tuple[int, int]:
    """Count by hand: return where a run stops and which step is the best."""
    best, best_step, waited = float("inf"), 0, 0
    for number, value in enumerate(losses, 1):
        if number * EVERY > steps:
            break
        best, best_step, waited = (value, number * EVERY, 0) if value < best else (best, best_step, waited + 1)
        if waited == patience:
            return number * EVERY, best_step
    return steps, best_step


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Let validations after EVERY, 2 EVERY, ... steps find these negative ELBOs, whatever the weights."""

    def told(values: Sequence[float]) -> None:
        real = loop.validate

        def validate(model: Any, batches: Any, step: int, device: Any) -> Any:
            found = real(model, batches, step, device)
            return dataclasses.replace(found, terms={**found.terms, "negative_elbo": values[min(step // EVERY, len(values)) - 1]})

        monkeypatch.setattr(loop, "validate", validate)

    return told


@pytest.fixture
def patient(small_config: TrainingConfig) -> Callable[[int | None], TrainingConfig]:
    return lambda patience: dataclasses.replace(
        small_config, validation_every=EVERY, checkpoint_every=4, patience=patience, decay_steps=None, learning_rate=1e-3
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_run_ends_where_a_loop_by_hand_does(train_small: Train, tmp_path: Path, losses: Callable, patient: Callable, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 12, 8).astype(float).tolist()
    losses(drawn)
    patience = 1 + seed % 3
    artifact = train_small(tmp_path, 20, config=patient(patience))
    expected = last_step(drawn, patience, 20)
    if expected[0] == 20:
        # the end is validated too, between two of the usual ones: with what the last told
        expected = (20, expected[1])
    assert (artifact.info.steps, int(artifact.info.validation["step"])) == expected


def test_equal_losses_are_no_better(train_small: Train, tmp_path: Path, losses: Callable, patient: Callable) -> None:
    losses([5.0, 5.0, 5.0, 5.0])
    artifact = train_small(tmp_path, 20, config=patient(2))
    assert (artifact.info.steps, artifact.info.validation["step"]) == (3 * EVERY, EVERY)


def test_the_kept_weights_are_the_averaged_ones_of_the_best_step(
    train_small: Train, tmp_path: Path, losses: Callable, patient: Callable
) -> None:
    losses([5.0, 3.0, 4.0, 4.0, 4.0])
    artifact = train_small(tmp_path / "patient", 20, config=patient(2))
    assert artifact.info.steps == 4 * EVERY
    train_small(tmp_path / "short", 2 * EVERY, config=patient(None))
    averaged = read_resume(tmp_path / "short")["averaged"]
    assert all(torch.equal(averaged[name], tensor) for name, tensor in artifact.model.state_dict().items())


class Stop:
    """Batches that send SIGTERM to this process while handing out batch `at`."""

    def __init__(self, batches: Any, at: int) -> None:
        self.batches, self.at = batches, at

    def __next__(self) -> Any:
        batch = next(self.batches)
        if self.batches.position == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


@pytest.mark.parametrize("at", [3, 8, 9, 11, 12])
def test_a_run_that_was_stopped_ends_at_the_same_step_with_the_same_weights(
    train_small: Train, tmp_path: Path, losses: Callable, patient: Callable, frames: np.ndarray, fake_batches: Any, at: int
) -> None:
    losses([5.0, 3.0, 4.0, 4.0, 1.0])
    straight = train_small(tmp_path / "straight", 20, config=patient(2))
    with pytest.raises(SystemExit):
        train_small(tmp_path / "stopped", 20, config=patient(2), batches=Stop(fake_batches(frames[:192], 8), at))
    resumed = train_small(tmp_path / "stopped", 20, config=patient(2))
    assert resumed.info == straight.info
    for part in ("model", "averaged"):
        one, other = (read_resume(tmp_path / name)[part] for name in ("straight", "stopped"))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_ended_says_so_and_goes_on_with_more_patience(
    train_small: Train, tmp_path: Path, losses: Callable, patient: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    losses([5.0, 3.0, 4.0, 4.0, 2.0, 2.5, 2.5])
    train_small(tmp_path, 20, config=patient(2))
    assert "2 validations without a better one" in capsys.readouterr().err
    assert train_small(tmp_path, 20, config=patient(2)).info.steps == 12
    assert "already trained for 12 steps; give more --training.patience to continue" in capsys.readouterr().err
    artifact = train_small(tmp_path, 20, config=patient(3))
    assert (artifact.info.steps, artifact.info.validation["step"]) == (20, 15)


def test_an_artifact_lost_after_the_last_checkpoint_is_written_again(
    train_small: Train, tmp_path: Path, losses: Callable, patient: Callable
) -> None:
    losses([5.0, 5.0, 5.0])
    first = train_small(tmp_path, 20, config=patient(1))
    (tmp_path / "encoder.json").unlink()
    assert train_small(tmp_path, 20, config=patient(1)).info == first.info
    assert load_encoder(tmp_path).info == first.info


def test_no_patience_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.patience must be 1 or more"):
        TrainingConfig(patience=0)
