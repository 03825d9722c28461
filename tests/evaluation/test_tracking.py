"""How often a slot keeps to its object, on a model whose slots are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders import Encoder, EncoderArtifact, StoreReference, TracksSlots, load_encoder, make_encoder, prepare
from encoders.artifact import EncoderInfo
from encoders.encoder import State
from evaluation import check_judge
from evaluation.evaluation import Evaluation
from evaluation.judges.tracking import Tracking, TrackingOptions
from evaluation.tracking import Held, held, kept
from foundation.errors import UserError
from frames import FrameStore
from frames.curation.splits import assign_splits
from frames.scenes.building import build_scenes
from frames.storage.writer import store_writer

SIDE, LENGTH, SQUARE = 32, 12, 6
ROWS = (3, 23)
"""Of the red square, which goes right, and of the green one, which goes left: they pass each other."""


def columns(time: int) -> tuple[int, int]:
    return 2 * time, SIDE - SQUARE - 3 * time if 3 * time <= SIDE - SQUARE else 0


def recording() -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, H, W, 3) and masks (F, 3, H, W, 1) of the background and both squares."""
    masks = np.zeros((LENGTH, 3, SIDE, SIDE, 1), np.uint8)
    for time in range(LENGTH):
        for thing, (row, column) in enumerate(zip(ROWS, columns(time), strict=True), 1):
            masks[time, thing, row : row + SQUARE, column : column + SQUARE] = 255
    masks[:, 0] = 255 - masks[:, 1:].max(1)
    frames = np.concatenate([masks[:, 1], masks[:, 2], np.zeros_like(masks[:, 0])], -1)
    return frames, masks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    path = tmp_path_factory.mktemp("passing") / "store"
    frames, masks = recording()
    with store_writer(path, {"source": "a test"}, (SIDE, SIDE, 3)) as writer:
        for name in "abcd":
            writer.add(name, frames, source=name, frames_per_second=5.0, arrays=lambda: {"observation.masks": masks})
        writer.finish(lambda names: assign_splits(names, "val"), {"resize": "squash", "left_out": []})
    return FrameStore(path)


@dataclass(frozen=True)
class Hyperparameters:
    frame_shape: tuple[int, int, int] = (SIDE, SIDE, 3)


class Nearest(Encoder):
    """Two slots go to the squares that are nearest to where they start (row, column); the third is the background."""

    Hyperparameters = Hyperparameters

    def __init__(self, hyperparameters: Hyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters or Hyperparameters()
        self.frame_shape = (SIDE, SIDE, 3)
        self.latents = {"slots": (3, 2)}

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        return self.slots_from(frames, self.slot_starts(len(frames)))[0], state

    def slot_starts(self, count: int, fresh: bool = False) -> Tensor:
        # one at the left edge, one at the right
        kept = torch.tensor([[16.0, 0.0], [16.0, 32.0], [0.0, 0.0]]).repeat(count, 1, 1)
        for one in kept if fresh else ():
            one[:2] = one[torch.randperm(2)]
        return kept

    def slots_from(self, frames: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        slots, masks = starts.clone(), torch.full((len(frames), 3, SIDE, SIDE), 0.5)
        for frame, start, slot, mask in zip(frames, starts, slots, masks, strict=True):
            places = [square.gt(0.5).nonzero().float().mean(0) for square in frame[:2]]
            costs = [sum((start[k] - places[order[k]]).norm() for k in (0, 1)) for order in ((0, 1), (1, 0))]
            order = (0, 1) if costs[0] <= costs[1] else (1, 0)
            for k in (0, 1):
                slot[k], mask[k] = places[order[k]], frame[order[k]]
        return slots, masks


def artifact(model: Encoder, store: FrameStore) -> EncoderArtifact:
    reference = StoreReference(str(store.path), "", 5.0, "squash")
    info = EncoderInfo("nearest", {}, model.frame_shape, {"slots": [3, 2]}, reference, 0, {}, "")
    return EncoderArtifact(model.eval(), info, {})


def test_a_slot_that_starts_where_it_was_keeps_its_object_and_others_lose_it_where_objects_pass(store: FrameStore) -> None:
    numbers = check_judge(Tracking(), artifact(Nearest(), store), store, TrackingOptions(clips=2, frames=LENGTH))
    assert numbers is not None
    assert (numbers["clips"], numbers["frames"], numbers["slots"]) == (2, LENGTH, 3)
    left = [columns(time)[0] < columns(time)[1] for time in range(LENGTH)]
    assert left[0] != left[-1]
    starts = numbers["starts"]
    assert starts["before"] == {"next_frame": 1, "first_frame": 1, "mean_iou": 1, "count": 2 * 2 * (LENGTH - 1)}
    assert starts["kept"]["next_frame"] == pytest.approx(np.mean([now == then for now, then in zip(left[1:], left[:-1], strict=True)]))
    assert starts["kept"]["first_frame"] == pytest.approx(np.mean([now == left[0] for now in left[1:]]))
    assert 0.1 < starts["fresh"]["next_frame"] < 0.9
    assert starts["fresh"]["mean_iou"] == 1


def test_objects_out_of_sight_and_without_a_slot_are_counted_by_hand() -> None:
    objects = np.zeros((3, 3, 2, 4), bool)
    # the first is always there, the second goes for a frame, the third is too small
    objects[:, 0, 0], objects[[0, 2], 1, 1, :3], objects[:, 2, 1, 3] = True, True, True
    owners = np.array([[[0] * 4, [1] * 4], [[0] * 4, [1] * 4], [[1] * 4, [1] * 4]])
    found = held(objects, owners, 2, least_pixels=3)
    # at last both are of one slot: it goes to one of them, the nearest fit, and the other has none
    assert found.slots[:2].tolist() == [[0, 1, -2], [0, -2, -2]]
    assert found.slots[2].tolist() == [1, -1, -2]
    assert found.iou[0, 0] == 1
    assert found.iou[0, 1] == 3 / 4
    assert found.iou[2, :2].tolist() == [1 / 2, 0]
    assert np.isnan(found.iou[1, 1])
    numbers = kept([found])
    assert (numbers.next_frame, numbers.count) == (1 / 2, 2)
    assert numbers.first_frame == pytest.approx(1 / 3)
    assert numbers.mean_iou == pytest.approx((1 + 3 / 4 + 1 + 1 / 2 + 0) / 5)
    nothing = kept([Held(np.full((2, 1), -2), np.full((2, 1), np.nan))])
    assert np.isnan([nothing.next_frame, nothing.first_frame, nothing.mean_iou]).all()


def test_a_real_model_is_followed_as_its_state_goes_on(store: FrameStore, tmp_path: Path) -> None:
    model = make_encoder("efficientmorl_debug", frame_shape=[SIDE, SIDE, 3])
    reference = StoreReference(str(store.path), store.fingerprint, 5.0, "squash")
    prepare(model, store.frames(np.arange(8)), tmp_path, store=reference)
    found = load_encoder(tmp_path)
    assert isinstance(found.model, TracksSlots)
    numbers = check_judge(Tracking(), found, store, TrackingOptions(clips=1, frames=3))
    assert numbers is not None
    assert numbers["starts"].keys() == {"before", "kept", "fresh"}


def test_what_cannot_be_followed_is_said(store: FrameStore, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = Nearest()
    build_scenes("Tetrominoes", tmp_path / "scenes", frames=4, episode_frames=2)
    assert Tracking().applies(model, store) is None
    for other in (FrameStore(tmp_path / "scenes"), FrameStore(clip_store)):
        assert Tracking().applies(model, other) == "the store has no recordings in order with masks of objects"
    assert "no slots that can start" in (Tracking().applies(make_encoder("pca", latent_dim=2), store) or "")
    empty = Evaluation(artifact(model, store), store, "test", store, tmp_path, torch.device("cpu"))
    assert Tracking().judge(artifact(model, store), store, TrackingOptions(), empty) == {"clips": 0}
    assert "no recording in 'test' has two frames" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--tracking.frames 1: must be 2 or more"):
        TrackingOptions(frames=1)
