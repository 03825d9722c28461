"""Every judge keeps the contract, on every kind of model, and check_judge notices one that does not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from encoders import Encoder, EncoderArtifact, StoreReference, load_encoder, make_encoder, prepare
from encoders.heads import HeadsConfig, Recorded, attach_heads
from encoders.heads.config import FutureConfig
from evaluation import Judge, check_judge
from evaluation.judges.clusters import ClustersOptions
from evaluation.judges.fid import FIDOptions
from evaluation.judges.hierarchy import HierarchyOptions
from evaluation.judges.likelihood import LikelihoodOptions
from evaluation.judges.neighbours import NeighboursOptions
from evaluation.judges.objects import ObjectsOptions
from evaluation.judges.open_loop import OpenLoopOptions
from evaluation.judges.projector import ProjectorOptions
from evaluation.judges.slots import SlotsOptions
from evaluation.registry import registered_judges
from frames import FrameStore, sample_sequences

SMALL: dict[str, dict[str, Any]] = {
    "conv_vae": {"latent_dim": 4, "encoder": "4k4s2", "decoder": "4 k4s2", "linear_stem": False},
    "cwvae_debug": {"encoder_kernels": [4, 4], "decoder_kernels": [6, 6]},
    "nvae_debug": {},
    "pca": {"latent_dim": 4},
    "efficientmorl_debug": {},
}
LOOKING = {"neighbours", "clusters", "projector"}
IMAGES = LOOKING | {"reconstruction", "pictures", "memorisation", "fid"}
APPLYING = {
    "conv_vae": IMAGES,
    "cwvae_debug": LOOKING | {"reconstruction", "pictures", "open_loop"},
    "nvae_debug": IMAGES | {"hierarchy", "likelihood"},
    "pca": IMAGES,
    "efficientmorl_debug": IMAGES | {"objects", "slots"},
}


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def opened(clip_store: Path) -> FrameStore:
    return FrameStore(clip_store)


@pytest.fixture(scope="module", params=SMALL)
def made(request: pytest.FixtureRequest, opened: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, EncoderArtifact]:
    """A small model of every kind, new weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    seen = sample_sequences(opened, "train", 40, 0).frames
    model = make_encoder(request.param, frame_shape=[16, 16, 3], **SMALL[request.param])
    frames = seen if model.clip_length > 1 else seen.reshape(-1, 16, 16, 3)
    prepare(model, frames, folder, store=StoreReference(str(opened.path), opened.fingerprint, 20.0, "squash"))
    return request.param, load_encoder(folder)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options with which a judge is done in a second."""
    monkeypatch.setattr("evaluation.inception.FIDInception", lambda weights: Means())
    monkeypatch.setattr("evaluation.samples.REESTIMATION_BATCHES", 2)
    (tmp_path / "inception.pth").touch()
    return {
        "fid": FIDOptions(tmp_path, images=4),
        "hierarchy": HierarchyOptions((0.5,)),
        "likelihood": LikelihoodOptions(2, 3),
        "neighbours": NeighboursOptions(frames=20, queries=4),
        "clusters": ClustersOptions(clusters=2, frames=20),
        "projector": ProjectorOptions(4),
        "objects": ObjectsOptions(images=6),
        "slots": SlotsOptions(images=2, traversals=1, dimensions=2, steps=2, activeness=1, ranges=4),
        "open_loop": OpenLoopOptions(context=8, predict=6, clips=2, samples=2),
    }


def test_every_shipped_judge_keeps_the_contract(made: tuple[str, EncoderArtifact], opened: FrameStore, options: dict[str, Any]) -> None:
    preset, artifact = made
    judges = registered_judges()
    found = {name: check_judge(judge, artifact, opened, options.get(name)) for name, judge in judges.items()}
    assert {name for name, numbers in found.items() if numbers is not None} == APPLYING[preset]


@pytest.mark.parametrize("preset", ["conv_vae", "cwvae_debug", "nvae_debug"])
def test_a_decoder_that_had_no_part_in_the_training_is_not_judged(preset: str, opened: FrameStore) -> None:
    model = make_encoder(preset, frame_shape=[16, 16, 3], **SMALL[preset])
    drawing = {"reconstruction", "memorisation", "fid", "open_loop", "hierarchy", "likelihood"} & APPLYING[preset]
    judges = {name: judge for name, judge in registered_judges().items() if name in drawing}
    for own_weight, reason in ((1.0, None), (0.0, "its decoder had no part in its training")):
        attach_heads(model, HeadsConfig(own_weight=own_weight, future=FutureConfig(weight=1.0, ahead=2)), Recorded())
        assert {name: judge.applies(model, opened) for name, judge in judges.items()} == dict.fromkeys(drawing, reason)


class Good(Judge):
    """What the broken ones below are, but for one promise."""

    name = "good"

    def judge(self, artifact: EncoderArtifact, store: FrameStore, options: Any, out: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        return {"drawn": float(torch.randn(())), "first": int(out.spread(1)[0, 0, 0, 0])}


class Unseeded(Good):
    def judge(self, *given: Any) -> dict[str, Any]:
        return {"drawn": float(torch.randn(()))}


class Writes(Good):
    def judge(self, artifact: EncoderArtifact, *given: Any) -> dict[str, Any]:
        with torch.no_grad():
            next(buffer for buffer in artifact.model.buffers()).add_(1)
        return super().judge(artifact, *given)


class Trains(Good):
    def judge(self, artifact: EncoderArtifact, *given: Any) -> dict[str, Any]:
        artifact.model.train()
        return super().judge(artifact, *given)


class Infinite(Good):
    def judge(self, *given: Any) -> dict[str, Any]:
        return {"parts": {"bits": [0.0, float("inf")]}}


class NoJson(Good):
    def judge(self, *given: Any) -> dict[str, Any]:
        return {"size": torch.tensor(3)}


class Nothing(Good):
    def judge(self, *given: Any) -> dict[str, Any]:
        return {}


class Hides(Good):
    def judge(self, artifact: EncoderArtifact, store: FrameStore, options: Any, out: Any) -> dict[str, Any]:
        out.pictures.mkdir(parents=True)
        (out.pictures / "secret.png").touch()
        return {"one": 1}


class Reserved(Good):
    name = "split"


class TwoLines(Good):
    def applies(self, model: Encoder, store: FrameStore) -> str | None:
        return "no\nnever"


@dataclass(frozen=True)
class Demanding:
    folder: Path


class NoDefault(Good):
    Options = Demanding


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Unseeded, "same numbers every time"),
        (Writes, "leave the model's weights"),
        (Trains, "evaluation mode"),
        (Infinite, r"finite, got \[inf\]"),
        (NoJson, "JSON"),
        (Nothing, "numbers or pictures"),
        (Hides, "told to out"),
        (Reserved, "'split' is taken"),
        (TwoLines, "one line"),
        (NoDefault, "default; without: folder"),
    ],
)
@pytest.mark.parametrize("made", ["pca"], indirect=True)
def test_a_judge_that_breaks_a_promise_is_told_which(
    made: tuple[str, EncoderArtifact], opened: FrameStore, kind: type[Judge], promise: str
) -> None:
    assert check_judge(Good(), load_encoder_again(made[1]), opened) is not None
    with pytest.raises(AssertionError, match=promise):
        check_judge(kind(), load_encoder_again(made[1]), opened)


def load_encoder_again(artifact: EncoderArtifact) -> EncoderArtifact:
    """Copy the model, which a broken judge may spoil."""
    model = type(artifact.model)(artifact.model.hyperparameters)
    model.load_state_dict(artifact.model.state_dict())
    return EncoderArtifact(model.eval(), artifact.info, artifact.statistics)
