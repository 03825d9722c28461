"""A sample that is a training frame is found out, and distances are grey levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import StoreReference, make_encoder, prepare
from evaluation.evaluation import Evaluation
from evaluation.judges.memorisation import Memorisation
from evaluation.neighbours import memorisation_report, nearest_frames, neighbours_picture


@pytest.fixture
def training() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), np.uint8)


def test_neighbours_are_those_of_the_whole_set_nearest_first(training: np.ndarray) -> None:
    queries = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    found = nearest_frames(queries, [training[:3], training[3:60], training[60:]], count=4)
    exact = np.sqrt(((queries[:, None].astype(float) - training[None]) ** 2).mean((2, 3, 4)))
    order = np.argsort(exact, 1)[:, :4]
    np.testing.assert_allclose(found.distances, np.take_along_axis(exact, order, 1))
    np.testing.assert_array_equal(found.frames, training[order])


def test_a_copy_is_at_distance_0_and_one_a_level_brighter_at_1(training: np.ndarray) -> None:
    dark = training // 2
    found = nearest_frames(np.stack([dark[7], dark[70] + 1]), [dark[:50], dark[50:]])
    assert found.distances[:, 0].tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(found.frames[1, 0], dark[70])
    assert found.distances.shape == (2, 9)


def test_a_store_with_fewer_frames_than_neighbours_gives_all_of_them(training: np.ndarray) -> None:
    assert nearest_frames(training[:2], [training[:2], training[2:3]]).distances.shape == (2, 3)


def test_samples_nearer_than_held_out_frames_are_pointed_out(training: np.ndarray) -> None:
    copies = nearest_frames(training[:10], [training])
    others = nearest_frames(np.random.default_rng(1).integers(0, 256, (10, 8, 8, 3), np.uint8), [training])
    report = memorisation_report(copies, others, 100)
    assert report["samples"] == {"median": 0.0, "smallest": 0.0}
    assert report["held_out_frames"]["median"] > 50
    assert "look whether nearest_frames.png shows copies" in report["verdict"]
    assert "no sign of memorisation" in memorisation_report(others, copies, 100)["verdict"]


def test_the_picture_has_a_labelled_row_a_query(training: np.ndarray) -> None:
    found = nearest_frames(training[:8], [training])
    picture = neighbours_picture(found[:6], found[6:])
    # a line of text and a row of ten frames at twice their size for six samples and two held-out frames
    assert picture.shape == (8 * (18 + 2 * 8 + 4), 10 * (2 * 8 + 4), 3)
    assert (picture[20:36, 2:18] == training[0].repeat(2, 0).repeat(2, 1)).all()
    assert (picture[20:36, 22:38] == training[0].repeat(2, 0).repeat(2, 1)).all()


def test_copies_are_looked_for_among_the_training_frames_alone(
    judged: Any, tiny: dict[str, Any], store: StoreReference, tmp_path: Path
) -> None:
    def greys(low: int, high: int, length: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.random.default_rng(low).integers(low, high, (length, 16, 16, 3)).astype(np.uint8), {}

    # the first recording is the train split: that of another store than the one that is judged
    trained = judged.store(tmp_path / "trained", 2, lambda number: greys(210, 250, 20) if number else greys(0, 100, 30))
    held_out = judged.store(tmp_path / "held out", 2, lambda number: greys(150, 200, 50) if number else greys(180, 250, 40))
    artifact = prepare(make_encoder("conv_vae", **tiny), trained.frames(trained.indices("train")), tmp_path / "run", store=store)
    out = Evaluation(artifact, held_out, "val", trained, tmp_path / "pictures", torch.device("cpu"))
    found = Memorisation().judge(artifact, held_out, None, out)
    assert found["searched_training_frames"] == 30
    queries, searched = greys(150, 200, 50)[0].astype(float), greys(0, 100, 30)[0]
    nearest = np.array([min(np.sqrt(((query - frame) ** 2).mean()) for frame in searched) for query in queries])
    assert found["held_out_frames"] == pytest.approx({"median": np.median(nearest), "smallest": nearest.min()})
