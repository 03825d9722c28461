"""ARI and overlap of partitions, against scikit-learn, hand-made cases and what the published Tetrominoes model made of ten pictures."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import adjusted_rand_score

from evaluation.segments import best_pairs, clustered, foreground_ari, mean_iou, overlaps, painted

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "efficientmorl"
golden = pytest.mark.skipif(not GOLDEN.exists(), reason="needs what the published model made of ten pictures, tetrominoes_real10.*")


def test_ari_is_scikit_learn_s_over_the_foreground() -> None:
    random = np.random.default_rng(0)
    true = random.integers(0, 5, (40, 9, 7))
    found = np.where(random.random(true.shape) < random.random((40, 1, 1)), true * 7 % 5, random.integers(0, 30, true.shape))
    expected = [adjusted_rand_score(one[one > 0], other[one > 0]) for one, other in zip(true, found, strict=True)]
    assert foreground_ari(true, found, true > 0) == pytest.approx(expected, abs=1e-12)


def test_partitions_into_one_piece_or_none() -> None:
    whole, single = np.ones((1, 3, 3), int), np.arange(9).reshape(1, 3, 3)
    counted = whole > 0
    assert foreground_ari(whole, 4 * whole, counted) == 1
    assert foreground_ari(whole, single, counted) == 0
    assert foreground_ari(single, 8 - single, counted) == 1
    assert np.isnan(foreground_ari(whole, whole, ~counted)).all()


@golden
def test_hand_made_cases_of_the_reference() -> None:
    for case in json.loads((GOLDEN / "tetrominoes_real10.json").read_text())["ari_cases"]:
        true, found = np.array(case["true"])[None], np.array(case["pred"])[None]
        assert foreground_ari(true, found, true > 0) == pytest.approx(case["ari"], abs=1e-6), case["case"]


@golden
def test_the_published_model_s_slots_score_as_published() -> None:
    facts, arrays = json.loads((GOLDEN / "tetrominoes_real10.json").read_text()), load_file(GOLDEN / "tetrominoes_real10.safetensors")
    true = (arrays["true_mask"] > 0).argmax(1)
    for level in facts["levels"]:
        ari = foreground_ari(true, arrays[f"level{level}/argmax_slot"], true > 0)
        assert ari == pytest.approx(facts["ARI"][level], abs=1e-5)
    for level in ("2", "3", "5"):
        error = np.square(arrays[f"level{level}/recon"].astype(np.float64) - arrays["image"] / 255).mean((1, 2, 3))
        assert error == pytest.approx(facts["MSE"][level], rel=2e-3)
        assert np.array_equal(arrays[f"level{level}/mask"].argmax(1), arrays[f"level{level}/argmax_slot"])
        # black ground looks the same in any slot, and the model shares it out among all
        objects, found = arrays["true_mask"][:, 1:] > 0, arrays[f"level{level}/argmax_slot"]
        assert mean_iou(objects, found, 4).max() < 0.3
        assert mean_iou(objects, np.where(true > 0, found, 4), 5) == pytest.approx(1)


def test_objects_get_the_segments_that_suit_them_best_together() -> None:
    random = np.random.default_rng(0)
    objects = np.eye(3, dtype=bool)[random.integers(0, 3, (6, 8, 8))].transpose(0, 3, 1, 2)
    # one that is not seen counts neither way
    objects[0, 1] = False
    found = np.where(random.random((6, 8, 8)) < 0.6, objects.argmax(1), random.integers(0, 4, (6, 8, 8)))
    expected = []
    for row in range(6):
        seen = [mask for mask in objects[row] if mask.any()]
        iou = [[(mask & (found[row] == part)).sum() / (mask | (found[row] == part)).sum() for part in range(4)] for mask in seen]
        choices = itertools.permutations(range(4), len(seen))
        expected.append(max(sum(iou[place][part] for place, part in enumerate(choice)) for choice in choices) / len(seen))
        assert overlaps(np.array(seen), found[row], 4) == pytest.approx(np.array(iou))
    assert mean_iou(objects, found, 4) == pytest.approx(expected)
    assert np.isnan(mean_iou(objects[:1] & False, found[:1], 4)).all()
    # more objects than segments: the third gets none
    assert len(best_pairs(np.ones((3, 2)))) == 2
    assert mean_iou(objects[1:2], found[1:2] * 0, 1) <= 1 / 3


def test_k_means_parts_plain_colours_and_paints_them_back() -> None:
    pictures = np.zeros((2, 12, 12, 3), np.uint8)
    pictures[:, :, 6:] = (255, 0, 0)
    pictures[1, :, :6] = (0, 0, 255)
    found = clustered(pictures, 2)
    assert foreground_ari(np.broadcast_to(np.arange(12) >= 6, (2, 12, 12)), found, np.ones((2, 12, 12), bool)).tolist() == [1, 1]
    assert painted(pictures, found) == pytest.approx(pictures / 255)
