"""Two processes with half of every batch each are one with the whole; run as a script, this file is the second of the two."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from encoders import Batch, Encoder, Placement, StoreReference, TrainingData, make_encoder, train
from encoders.critic.model import LABEL
from encoders.heads import HeadsConfig, Recorded, attach_heads
from encoders.heads.attached import training_terms
from encoders.heads.config import ActionsConfig, Column, FutureConfig, InverseConfig, StateConfig, ValueConfig
from encoders.training.config import TrainingConfig
from encoders.training.parallel import PartOfBatch, Ranks, join, leave, synchronised
from encoders.training.state import TrainingState, read_resume
from foundation.errors import UserError
from tests.fixtures import encoders as fakes
from tests.fixtures.listening import reachable

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrainingConfig(batch_size=8, learning_rate=5e-3, optimizer="adamax", adam_epsilon=1e-2, validation_every=5, checkpoint_every=5)
STEPS, FURTHER = 5, 8
PATIENCE = timedelta(minutes=3)


class Part:
    """One rank's part of the batches of the frame store's fake."""

    def __init__(self, batches: Any, rank: int, size: int, blank_at: int = 0) -> None:
        self.batches, self.rank, self.size, self.blank_at = batches, rank, size, blank_at

    def __next__(self) -> Any:
        batch = next(self.batches)
        share = len(batch.frames) // self.size
        frames = batch.frames[self.rank * share : (self.rank + 1) * share]
        if self.batches.position == self.blank_at:
            frames = np.full(frames.shape, np.nan, np.float32)
        return type(batch)(frames)

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


def trained(folder: Path, frames: np.ndarray, fakes: Any, ranks: Ranks, steps: int = STEPS, blank_at: int = 0) -> Encoder:
    """Train a tiny conv VAE whose latents are not drawn; other ranks than the first start from other weights."""
    torch.manual_seed(ranks.rank)
    model = make_encoder("conv_vae", **fakes.MODEL)
    data = TrainingData(
        Part(fakes.FakeBatches(frames[:192], 8), ranks.rank, ranks.size, blank_at),  # type: ignore[arg-type]
        lambda: [fakes.FakeBatch(frames[240:][:, None])],
        lambda: fakes.FakeBatch(frames[:64][:, None]),
        StoreReference("some/store", "f1", 20.0, "squash"),
    )
    train(model, data, folder, CONFIG, steps=steps, placement=Placement(device="cpu", threads=1, ranks=ranks))
    return model


def normalised(layer: nn.Module, x_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a layer makes of a batch in training, gradients, statistics, and what it makes of it after."""
    x_NCHW = x_NCHW.clone().requires_grad_()
    y = layer(x_NCHW)
    weights = torch.arange(y.numel()).view_as(y).sin()
    (y.square() * weights).mean().backward()
    found = {"y": y.detach(), "x": x_NCHW.grad, "mean": layer.running_mean, "variance": layer.running_var, "after": layer.eval()(x_NCHW)}
    return found | {name: parameter.grad for name, parameter in layer.named_parameters()}  # type: ignore[dict-item]


def batch_norm(input: torch.Tensor) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(input.shape[1], momentum=0.05)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, input.shape[1]))
    return layer


def inputs() -> torch.Tensor:
    # the halves differ, as their statistics have to
    return torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(8.0).view(8, 1, 1, 1)


HEADS = HeadsConfig(
    actions=ActionsConfig(weight=1, count=2),
    value=ValueConfig(weight=0.5),
    inverse=InverseConfig(weight=2),
    future=FutureConfig(weight=1, ahead=1),
    state=StateConfig(weight=1),
    hidden=5,
)
RECORDED = Recorded((Column("action.attack", "key"), Column("action.camera", "number", 2.0)), (Column("distance"),))
LEARNERS = ("heads", "heads in clips", "critic")
COUNTED = (torch.int64, torch.float32, torch.float64)


def learner(name: str) -> Encoder:
    """A model that learns from labels."""
    torch.manual_seed(0)
    if name == "critic":
        return make_encoder("critic", frame_shape=[32, 32, 3], dropout=0.0, shift=0)
    if name == "heads":
        model, config = make_encoder("points_tiny", frame_shape=[16, 16, 3]), HEADS
    else:
        # its own loss draws noise
        model, config = make_encoder("cwvae_debug"), dataclasses.replace(HEADS, own_weight=0.0)
    attach_heads(model, config, RECORDED)
    return model


def labelled(model: Encoder) -> Batch:
    """Eight clips, of whose first half next to nothing is known."""
    source = torch.Generator().manual_seed(1)
    height, width, channels = model.frame_shape
    clips, length = 8, model.clip_length

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(clips, length, *shape, generator=source)

    targets = {"next_actions": drawn(2, 2).round(), LABEL: drawn(), "state": drawn(1)}
    for name, known in (("next_actions", 1), (LABEL, 0), ("state", 2)):
        targets[name][known:4] = torch.nan
    frames = drawn(channels, height, width)
    if length == 1:
        targets |= {"frames_ahead": drawn(channels, height, width), "frames_ahead_known": torch.ones(clips, 1)}
        targets["frames_ahead_known"][[0, 2, 6]] = 0
    return Batch(frames, None, targets)


def learned(name: str, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return the gradients, and the terms, of one training step on this process's part of the batch."""
    model = learner(name)
    batch = labelled(model)
    half = slice(4 * ranks.rank, 4 * ranks.rank + 4) if ranks.size > 1 else slice(8)
    part = Batch(batch.frames[half], None, {label: values[half] for label, values in batch.targets.items()})
    state = TrainingState(model, CONFIG, torch.device("cpu"), ranks)
    terms = training_terms(state.model.train(), part, 0)
    terms["loss"].backward()
    ranks.mean_gradients(state.model.parameters())
    found = ranks.mean_terms({term: value.detach() for term, value in terms.items()}, torch.device("cpu"))
    return found | {one: parameter.grad for one, parameter in state.model.named_parameters() if parameter.grad is not None}


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Latents are their means, as two processes draw other noise than one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        yield


@pytest.fixture(scope="module")
def two(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what this process and a second one left behind."""
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as second:
        try:
            _be_one_of_two(0, folder)
            _, complaints = second.communicate(timeout=120)
        finally:
            second.kill()
    assert second.returncode == 0, complaints
    return folder


@pytest.fixture(scope="module")
def one(undrawn: None, tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    """The folder of one process that did the same alone."""
    folder = tmp_path_factory.mktemp("one") / "run"
    trained(folder, frames, fakes, Ranks())
    return folder


def test_two_processes_with_half_of_every_batch_learn_what_one_does_with_the_whole(two: Path, one: Path) -> None:
    expected, found = read_resume(one), read_resume(two / "run")
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(found["model"][name], tensor, rtol=1e-3, atol=2e-4, msg=name)
    assert found["best"]["metrics"]["negative_elbo"] == pytest.approx(expected["best"]["metrics"]["negative_elbo"], rel=1e-3)
    assert found["batches"] == expected["batches"]


def test_both_processes_have_the_same_weights_to_the_bit(two: Path) -> None:
    one, other = (torch.load(two / f"weights{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_all(two: Path) -> None:
    kept = read_resume(two / "blank")
    assert kept["skipped"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())


def test_a_run_of_two_processes_goes_on_with_one(two: Path, one: Path, frames: np.ndarray) -> None:
    trained(two / "run", frames, fakes, Ranks(), FURTHER)
    trained(one, frames, fakes, Ranks(), FURTHER)
    assert read_resume(two / "run")["step"] == FURTHER
    for name, tensor in read_resume(one)["model"].items():
        torch.testing.assert_close(read_resume(two / "run")["model"][name], tensor, rtol=1e-3, atol=5e-4, msg=name)


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_that_are_known_to_one_process_more_than_to_the_other_teach_as_in_one_batch(two: Path, undrawn: None, name: str) -> None:
    expected = learned(name, Ranks())
    for rank in range(2):
        found = torch.load(two / f"{name}{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for one, tensor in expected.items():
            torch.testing.assert_close(found[one], tensor, rtol=1e-4, atol=1e-5 * max(1.0, float(tensor.abs().max())), msg=one)


def test_a_process_s_share_is_that_of_what_it_knows_whatever_its_count_is_counted_in(two: Path) -> None:
    for rank, known in enumerate((3, 5)):
        shares = torch.load(two / f"shares{rank}.pt", weights_only=True)
        assert [float(share) for share in shares] == pytest.approx([known * 2 / 8] * len(COUNTED))


def test_batch_normalisation_over_two_processes_is_that_of_the_whole_batch(two: Path) -> None:
    expected = normalised(batch_norm(inputs()), inputs())
    parts = [torch.load(two / f"normalised{rank}.pt", weights_only=True) for rank in range(2)]
    for name in ("mean", "variance"):
        for part in parts:
            torch.testing.assert_close(part[name], expected[name])
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), expected["y"])
    torch.testing.assert_close(torch.cat([part["after"] for part in parts]), expected["after"])


@pytest.mark.parametrize("options", [("--device", "cuda"), ("--training.batch-size", "5"), ("--device", "cuda:0")])
def test_workers_that_cannot_be_had_are_refused_before_any_is_started(
    command: Callable[..., int], video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: tuple[str, str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    arguments = ("debug", "--store", video_store, "--run", tmp_path / "run", "--workers", 2, "--device", "cpu")
    assert command("train_encoder.py", *arguments, *options) == 2
    error = capsys.readouterr().err
    assert "each worker takes a GPU, and there are 0" in error or "multiple of 2" in error or "use auto, cpu or cuda" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_workers_train_stop_at_errors_and_outlive_no_death(
    command: Callable[..., int], video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from encoders.training.workers import run_workers

    sizes = ("--training.validation-frames", 8, "--training.batch-size", 4)
    arguments = ("nvae_debug", "--store", video_store, "--run", tmp_path / "run", "--workers", 2, "--device", "cpu", *sizes)
    assert command("train_encoder.py", *arguments, "--steps", 10) == 0
    said = capsys.readouterr().err
    assert "step 10: validation negative ELBO" in said
    assert read_resume(tmp_path / "run")["step"] == 10
    assert command("train_encoder.py", *arguments, "--steps", 10, "--training.learning-rate", 0.5) == 2
    assert "training.learning_rate" in capsys.readouterr().err

    def die(driver: int, device: str, ranks: Any, asked_to_stop: Any) -> None:
        import os
        import signal

        from tests.fixtures.listening import listeners

        # once all have met, and before anybody is gone
        ranks.wait()
        if ranks.leads:
            (tmp_path / "listening.json").write_text(json.dumps(sorted(listeners(driver))))
        ranks.wait()
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.wait()

    with pytest.raises(UserError, match="worker 1 of 2 has died"):
        run_workers(die, os.getpid(), 2, "cpu")
    listening = {tuple(one) for one in json.loads((tmp_path / "listening.json").read_text())}
    assert {"raylet", "ray::Worker.do"} <= {name for name, _, _ in listening}
    assert reachable(listening) == set()


def _be_one_of_two(rank: int, folder: Path) -> None:
    frames = fakes.coloured_squares()
    ranks = join(rank, 2, f"file://{folder / 'meeting'}", torch.device("cpu"), PATIENCE)
    try:
        layer = synchronised(nn.Sequential(batch_norm(inputs())), torch.device("cpu"))[0]  # type: ignore[index]
        found = normalised(layer, inputs().chunk(2)[rank])
        torch.save({name: tensor.detach() for name, tensor in found.items()}, folder / f"normalised{rank}.pt")
        for name in LEARNERS:
            torch.save(learned(name, ranks), folder / f"{name}{rank}.pt")
        # of what is known, one has 3 and the other 5
        counts = [torch.tensor(3 + 2 * rank, dtype=kind) for kind in COUNTED]
        torch.save([PartOfBatch(ranks).share(count) for count in counts], folder / f"shares{rank}.pt")
        torch.save(trained(folder / "run", frames, fakes, ranks).state_dict(), folder / f"weights{rank}.pt")
        trained(folder / "blank", frames, fakes, ranks, steps=2, blank_at=2 if rank else 0)
    finally:
        leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.randn_like = torch.zeros_like
    _be_one_of_two(1, Path(sys.argv[1]))
