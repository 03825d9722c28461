"""What probes read from latents stands beside the returns, and how both are ranked alike."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from comparison.encoder_facts import Probe, read_probes
from comparison.report.files import write_files
from comparison.report.statistics import rank_correlation
from comparison.report.summary import summarise
from comparison.report.tables import print_table
from comparison.results import RowResults, read_results
from encoders import StoreReference, make_encoder, prepare
from tests.comparison.rows import PLAYERS, row, task


def probed(label: str, middle: float, linear: float, mlp: float | None = None, kind: str = "encoder") -> RowResults:
    """Return a row whose encoder was probed for the bearing, and all but one of them for the reward."""
    probes = {"bearing": Probe("R2", linear, linear if mlp is None else mlp), "reward_soon": Probe("AUC", 0.5, 0.5)}
    one = row(label, middle)
    assert one.encoder
    return replace(one, kind=kind, encoder=replace(one.encoder, probes=probes))


FOUR = (probed("a", 2, 0.1, 0.9), probed("b", 4, 0.3, 0.1), probed("c", 6, 0.2, 0.2), probed("d", 8, 0.9, 0.05))


def test_ranks_are_correlated_as_scipy_does() -> None:
    random = np.random.default_rng(0)
    for count in (4, 5, 9):
        for _ in range(20):
            # whole numbers: many ties
            one, other = random.integers(0, 5, (2, count)).tolist()
            if len(set(one)) > 1 and len(set(other)) > 1:
                assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_ranks_of_no_ties_are_correlated_as_the_textbook_says() -> None:
    one, other = [3.0, 1.0, 2.0, 10.0, -5.0], [0.1, 0.2, 0.3, 0.4, 0.0]
    ranks = [[sorted(side).index(value) for value in side] for side in (one, other)]
    squares = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    assert rank_correlation(one, other) == pytest.approx(1 - 6 * squares / (5 * 24))
    assert rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None


def test_a_probe_is_ranked_with_the_return_from_four_rows_on() -> None:
    found = {(one.probe, one.kind): one for one in summarise([task(*FOUR, row("pixels", 5, "control"), *PLAYERS)])[0].correlations}
    # 0.1 0.3 0.2 0.9 beside 2 4 6 8: one pair of neighbours is exchanged
    assert found["bearing", "linear"].spearman == pytest.approx(0.8)
    assert found["bearing", "mlp"].spearman == pytest.approx(-0.8)
    assert found["bearing", "linear"].rows == 4
    assert found["reward_soon", "linear"].spearman is None
    assert summarise([task(*FOUR[:3], *PLAYERS)])[0].correlations == []


def test_rows_of_another_algorithm_are_ranked_apart() -> None:
    others = [
        replace(one, key=f"{one.key}2", label=f"{one.label} with DQN", algorithm="DQN", runs=FOUR[-1 - index].runs)
        for index, one in enumerate(FOUR)
    ]
    found = summarise([task(*FOUR, *others, *PLAYERS)])[0].correlations
    bearing = {one.algorithm: one.spearman for one in found if (one.probe, one.kind) == ("bearing", "linear")}
    assert bearing == pytest.approx({"PPO": 0.8, "DQN": -0.8})


def test_every_form_of_the_report_has_the_probes(tmp_path: Path, capsys, no_figures) -> None:
    made = task(*FOUR, row("pixels", 5, "control"), *PLAYERS)
    summaries = write_files(tmp_path, [made], "the command")
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [line["probe_bearing_linear"] for line in content["rows"]][:5] == [0.1, 0.3, 0.2, 0.9, None]
    correlations = {(one["probe"], one["kind"]): one for one in content["probe_correlations"]}
    assert correlations["bearing", "mlp"]["spearman"] == pytest.approx(-0.8)
    assert read_results(tmp_path) == [made]
    table = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert [line["probe_bearing_mlp"] for line in table][:5] == ["0.9", "0.1", "0.2", "0.05", ""]
    print_table(summaries)
    for shown in (capsys.readouterr().out, (tmp_path / "report.html").read_text()):
        assert "0.80 / -0.80 (4 rows)" in shown
        assert "0.10 / 0.90" in shown
        assert "reward soon" in shown


def test_without_probes_nothing_is_shown_of_them(tmp_path: Path, capsys, no_figures) -> None:
    print_table(write_files(tmp_path, [task(row("vae", 5), *PLAYERS)], "the command"))
    assert "probe" not in capsys.readouterr().out.lower()
    page = (tmp_path / "report.html").read_text()
    assert "<body>" in page
    assert "probe" not in page.partition("<body>")[2].lower()


def test_probes_are_read_from_an_evaluation_of_these_weights_and_this_reading(tmp_path: Path) -> None:
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    info = prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path, store=store).info
    assert read_probes(tmp_path, info) == {}
    bearing = {"metric": "R2", "chance": 0.0, "encoder": {"linear": 0.4, "mlp": 0.6}, "pca": {"linear": 0.1, "mlp": 0.2}}
    evaluation = {"encoder": info.weights_sha256, "probes": {"reading": "mean", "probes": {"bearing": bearing}}}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    assert read_probes(tmp_path, info) == {"bearing": Probe("R2", 0.4, 0.6)}
    assert read_probes(tmp_path, info, "mean", who="pca") == {"bearing": Probe("R2", 0.1, 0.2)}
    assert read_probes(tmp_path, info, who="untrained") == {}
    assert read_probes(tmp_path, info, "pooled") == {}
    # evaluated before it was trained further
    assert read_probes(tmp_path, replace(info, weights_sha256="other")) == {}
    (tmp_path / "evaluation.json").write_text('{"reconstruction": {}}')
    assert read_probes(tmp_path, info) == {}
