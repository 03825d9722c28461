"""Masks are scored as a slow loop scores them, saliency is each frame's own, and a mask that is the truth gets IoU 1."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from encoders import EncoderArtifact
from evaluation import check_judge
from evaluation.judges.masks import Masks, MasksOptions
from evaluation.mask_scores import THRESHOLDS, Overlap, disc_radius, discs, grabcut, iou, saliency
from foundation.errors import UserError
from frames import FrameStore


def test_iou_at_every_threshold_is_that_of_a_loop_pooled_over_frames() -> None:
    random = np.random.default_rng(0)
    masks, truth = random.random((6, 8, 8)).astype(np.float32), random.random((6, 8, 8)) < 0.2
    masks[0, 0, :3] = [0.02, 0.5, 0.98]
    overlap = Overlap()
    overlap.add(masks[:2], truth[:2])
    overlap.add(masks[2:], truth[2:])
    expected = []
    for threshold in THRESHOLDS.astype(np.float32):
        marked = masks >= threshold
        expected.append((marked & truth).sum() / (marked | truth).sum())
    np.testing.assert_allclose(overlap.iou, expected)
    assert iou(masks >= THRESHOLDS.astype(np.float32)[9], truth) == pytest.approx(expected[9])


class Weighs:
    """The value is the sigmoid of a weighted sum of pixels."""

    def __init__(self) -> None:
        self.weights = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))

    def value(self, frames: torch.Tensor, actions: Any = None) -> torch.Tensor:
        return (frames * self.weights).sum((2, 3, 4)).sigmoid()


def test_saliency_is_the_frame_s_own_gradient_whatever_stands_beside_it() -> None:
    giver, frames = Weighs(), torch.rand(5, 1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    found = saliency(giver, frames)
    assert found is not None
    # of a sigmoid of a sum: V (1 - V) |w|, of which the scale goes out with the mean
    strength = giver.weights.abs().sum(0)
    value = giver.value(frames).flatten()
    expected = (strength / (4 * strength.mean())).clamp_max(1)[None] * value[:, None, None]
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-4)
    alone = saliency(giver, frames[2:3])
    assert alone is not None
    np.testing.assert_allclose(alone[0][0], found[0][2], rtol=1e-5)


def test_the_thresholds_of_discs_are_radii() -> None:
    masks = discs((16, 16))
    radius = disc_radius((16, 16), 0.5)
    rows, columns = np.mgrid[:16, :16] - 7.5
    np.testing.assert_array_equal(masks >= 0.5, np.hypot(rows, columns) <= radius)


def test_grabcut_finds_the_edges_of_what_a_mask_marks_roughly() -> None:
    frame = np.full((48, 48, 3), (40, 160, 40), np.uint8)
    frame = cv2.add(frame, np.random.default_rng(0).integers(0, 20, frame.shape).astype(np.uint8))
    truth = np.zeros((48, 48), bool)
    truth[14:34, 16:32] = True
    frame[truth] = (150, 100, 50)
    rough = np.exp(-((np.hypot(*(np.mgrid[:48, :48] - 24.0)) / 12) ** 2))
    refined = next(grabcut(frame[None], rough[None], 0.4))
    assert iou(refined[None], truth[None]) > 0.95 > iou(rough[None] >= 0.4, truth[None])
    nothing = next(grabcut(frame[None], np.zeros((1, 48, 48)), 0.4))
    assert not nothing.any()


def test_a_mask_that_is_the_truth_overlaps_with_all_of_it(marks: EncoderArtifact, marked_store: FrameStore) -> None:
    found = check_judge(Masks(), marks, marked_store, MasksOptions(frames=60, film=0, grabcut=5))
    assert found is not None
    rows, share = found["rows"], 16 / 256
    # but for the corner, which stands for the value and is no wood
    assert rows["mask"]["iou"] > 0.97
    assert rows["mask"]["recall"] == 1
    assert rows["full"]["iou"] == pytest.approx(share)
    assert share < rows["disc"]["iou"] < 0.5
    # the value is read from one pixel, that is never wood
    assert rows["saliency"]["iou"] == 0
    assert len(found["iou"]["mask"]) == len(found["thresholds"])
    assert found["swaps"].keys() == {"a", "b", "replaced", "injected"}
    assert found["swaps"]["a"] > found["swaps"]["b"]


def test_pictures_and_a_film_are_left(marks: EncoderArtifact, marked_store: FrameStore, tmp_path: Path) -> None:
    from evaluation.evaluation import Evaluation

    out = Evaluation(marks, marked_store, "val", marked_store, tmp_path, torch.device("cpu"))
    Masks().judge(marks, marked_store, MasksOptions(frames=60, film=6), out)
    assert [path.name for path in out.files] == ["masks.png", "mask_swaps.png", "masks.mp4"]
    film = cv2.VideoCapture(str(tmp_path / "masks.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert "IoU of" in out.verdicts[0]


def test_without_segmentation_there_are_pictures_and_a_word_about_it(
    marks: EncoderArtifact, clip_store: Path, judged: Any, tmp_path: Path
) -> None:
    from evaluation.evaluation import Evaluation

    store = FrameStore(clip_store)
    out = Evaluation(marks, store, "val", store, tmp_path, torch.device("cpu"))
    found = Masks().judge(marks, store, MasksOptions(film=2), out)
    assert found.keys() == {"swaps"}
    assert "holds no segmentation" in out.verdicts[0]
    assert {path.name for path in out.files} >= {"masks.png", "masks.mp4"}


def test_a_mistyped_block_is_told() -> None:
    with pytest.raises(UserError, match=r"--masks\.blocks logs: did you mean 'log'"):
        MasksOptions(blocks=("logs",))
    assert MasksOptions(blocks=("17",)).blocks == ("17",)
