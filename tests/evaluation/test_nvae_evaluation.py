"""evaluate_encoder.py on an NVAE: every number and picture that it promises."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from encoders import StoreReference, make_encoder, prepare
from evaluation.histogram import Histogram
from frames import FrameStore, in_order, sample_frames

Command = Callable[..., int]


@pytest.fixture(scope="module")
def run(video_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained NVAE that names the store of moving squares."""
    torch.manual_seed(0)
    folder, store = tmp_path_factory.mktemp("nvae"), FrameStore(video_store)
    reference = StoreReference(str(video_store), store.fingerprint, 20.0, "squash")
    prepare(make_encoder("nvae_debug"), sample_frames(store, "train", 16, 0), folder, store=reference)
    return folder


@pytest.fixture(autouse=True)
def _few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.samples.REESTIMATION_BATCHES", 2)


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_an_nvae_is_judged_by_all_that_is_promised(
    command: Command, run: Path, video_store: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.inception.FIDInception", lambda weights: Means())
    (run / "weights").mkdir()
    (run / "weights" / "inception.pth").touch()
    short = ["--likelihood.importance-frames", 3, "--likelihood.importance-samples", 2, "--hierarchy.temperatures", 0.5, 1]
    short += ["--limit", 8, "--fid.images", 4]
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--fid.weights", run / "weights", *short) == 0
    printed = capsys.readouterr()
    report = json.loads((run / "evaluation.json").read_text())
    coded = report["reconstruction"]["bits_per_dim"]
    assert coded["elbo"] == pytest.approx(report["reconstruction"]["terms"]["bits_per_dim"])
    store = FrameStore(video_store)
    training, held_out = Histogram(3), Histogram(3)
    training.add(store.frames(store.indices("train")))
    for batch in in_order(store, "val", 8, 1, 8):
        held_out.add(batch.frames)
    assert coded["histogram_of_training_frames"] == pytest.approx(training.bits_per_dim(held_out))
    tighter = report["likelihood"]
    assert (tighter["frames"], tighter["samples"]) == (3, 2)
    assert tighter["importance_weighted_bits_per_dim"] <= tighter["elbo_bits_per_dim"]
    assert len(report["hierarchy"]["groups"]) == 3
    assert report["hierarchy"]["verdict"] in printed.out
    assert report["memorisation"]["searched_training_frames"] == 80
    assert report["fid"]["images"] == 4
    assert set(report["fid"]["distances"]) == {"samples", "held-out frames (val)", "samples, batch statistics estimated anew"}
    assert "FID from 4 images is too high" in printed.err
    for name in ("reconstructions", "samples", "temperatures", "nearest_frames"):
        assert (run / "pictures" / f"{name}.png").stat().st_size > 0


def test_a_store_without_training_frames_needs_the_training_store(
    command: Command, run: Path, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    info = json.loads((tmp_path / "run" / "encoder.json").read_text())
    info["store"] = {**info["store"], "path": str(tmp_path / "gone"), "fingerprint": "another"}
    (tmp_path / "run" / "encoder.json").write_text(json.dumps(info))
    held = FrameStore.indices
    monkeypatch.setattr(FrameStore, "indices", lambda store, split: held(store, split)[: 0 if split == "train" else None])
    assert command("evaluate_encoder.py", tmp_path / "run", "--store", video_store, "--threads", 1) == 2
    said = capsys.readouterr().err
    assert "gone: the training store is gone" in said
    assert "has no training frames to compare with" in said
