"""Neighbours come from other recordings, clusters are those of a plain k-means, and the projector's files are TensorBoard's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import EncoderArtifact
from evaluation import check_judge
from evaluation.judges.clusters import Clusters, ClustersOptions
from evaluation.judges.neighbours import Neighbours, NeighboursOptions
from evaluation.judges.projector import Projector, ProjectorOptions
from evaluation.latent_space import k_means, nearest_elsewhere
from foundation.errors import UserError
from frames import FrameStore


def test_neighbours_are_the_nearest_of_other_recordings() -> None:
    random = np.random.default_rng(0)
    vectors, recordings, queries = random.normal(size=(40, 5)).astype(np.float32), np.arange(40) // 10, np.array([3, 17])
    found = nearest_elsewhere(vectors, recordings, queries, 4)
    for query, rows in zip(queries, found, strict=True):
        others = [row for row in range(40) if recordings[row] != recordings[query]]
        assert rows.tolist() == sorted(others, key=lambda row: float(np.linalg.norm(vectors[row] - vectors[query])))[:4]


def test_clusters_are_found_and_every_frame_is_with_its_nearest_centre() -> None:
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(place, 0.1, (30, 2)) for place in ((0, 0), (5, 0), (0, 5))])
    cluster, centres = k_means(x, 3)
    assert sorted(np.bincount(cluster)) == [30, 30, 30]
    assert all(len(set(cluster[start : start + 30])) == 1 for start in (0, 30, 60))
    np.testing.assert_allclose(centres[cluster[0]], x[:30].mean(0))
    same, _ = k_means(np.zeros((5, 2)), 3)
    assert set(same) == {0}


def test_clusters_say_how_many_frames_and_what_is_to_come(marks: EncoderArtifact, marked_store: FrameStore) -> None:
    found = check_judge(Clusters(), marks, marked_store, ClustersOptions(clusters=3, frames=100))
    assert found is not None
    assert sum(one["frames"] for one in found["clusters"]) == found["frames"] == 100
    means = [one["mean_reward_to_come"] for one in found["clusters"]]
    assert means == sorted(means, reverse=True)


def test_neighbours_tell_how_much_rewards_to_come_differ(marks: EncoderArtifact, marked_store: FrameStore) -> None:
    found = check_judge(Neighbours(), marks, marked_store, NeighboursOptions(frames=100, queries=20))
    assert found is not None
    assert found["difference_in_reward_to_come"].keys() == {"latents", "pixels", "any_frame"}


def test_the_projector_s_files_hold_every_frame(marks: EncoderArtifact, marked_store: FrameStore, tmp_path: Path) -> None:
    from evaluation.evaluation import Evaluation

    out = Evaluation(marks, marked_store, "val", marked_store, tmp_path, torch.device("cpu"))
    for _ in range(2):
        out.files.clear()
        Projector().judge(marks, marked_store, ProjectorOptions(12), out)
    files = {path.name: path for path in out.files}
    assert {"tensors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt"} < files.keys()
    assert np.loadtxt(files["tensors.tsv"]).shape == (12, 4)
    assert files["metadata.tsv"].read_text().splitlines()[0] == "recording\tframe\treward to come"
    with pytest.raises(UserError, match="thumbnails at most"):
        Projector().check(marks, marked_store, ProjectorOptions(10**6), out)


def test_the_projector_s_flag_stands_for_its_frames(monkeypatch: pytest.MonkeyPatch, command: Callable[..., int]) -> None:
    asked: dict[str, Any] = {}

    def judge_encoder(options: Any, judges: Any, settings: dict[str, Any]) -> None:
        asked.update(settings)

    monkeypatch.setattr("evaluation.judging.judge_encoder", judge_encoder)
    assert command("evaluate_encoder.py", "RUN", "--store", "STORE") == 0
    assert asked["projector"].frames is None
    assert command("evaluate_encoder.py", "RUN", "--store", "STORE", "--projector") == 0
    assert asked["projector"].frames == 2000
    assert command("evaluate_encoder.py", "RUN", "--store", "STORE", "--projector.frames", 30) == 0
    assert asked["projector"].frames == 30
