"""What a row took: steps, seconds, weights that learn and weights that are frozen; learning curves against steps and against seconds."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.run.config import EvaluationConfig
from comparison.collect import collect
from comparison.comparison import Comparison
from comparison.config import ComparisonConfig, Origin, PartConfig, read_grid
from comparison.report.conclusions import conclusions
from comparison.report.files import join_reports, write_files, write_report
from comparison.report.statistics import estimate, interquartile_mean, on_common_grid
from comparison.report.summary import TIMED_POINTS, summarise
from comparison.report.tables import print_table
from comparison.results import Point, Run
from encoders import load_encoder
from foundation.errors import UserError
from foundation.places import Address
from tests.agents.run.test_representation import mirrored  # noqa: F401
from tests.comparison.rows import PLAYERS, row, task
from tests.comparison.test_comparison import PPO, TASKS, compare  # noqa: F401
from wrappers.camera_actions import ACTION_LISTS

CHOICES = len(ACTION_LISTS["treechop"])


def lines_of(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / name).read_text())))


def interpolated(at: float, places: list[float], heights: list[float]) -> float:
    """The slow way: look for the stretch that `at` lies on."""
    for index in range(len(places) - 1):
        if places[index] <= at <= places[index + 1]:
            share = (at - places[index]) / (places[index + 1] - places[index])
            return heights[index] + share * (heights[index + 1] - heights[index])
    raise AssertionError


def test_curves_against_seconds_are_those_of_a_slow_loop() -> None:
    random, curves, runs = np.random.default_rng(0), [], []
    for seed in range(6):
        points = int(random.integers(3, 7))
        curves.append((np.cumsum(random.uniform(1, 9, points)).tolist(), random.normal(size=points).tolist()))
        curve = [Point(10 * index, height, at) for index, (at, height) in enumerate(zip(*curves[-1], strict=True))]
        runs.append(Run(seed, 100, 1.0, [1.0], curve))
    found = summarise([task(replace(row("vae", 5), runs=runs), *PLAYERS)])[0].rows[0].timed_curve
    start, end = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    assert len(found) == TIMED_POINTS
    assert (found[0][0], found[-1][0]) == (start, end)
    for index, (at, point) in enumerate(found):
        assert at == pytest.approx(start + (end - start) * index / (TIMED_POINTS - 1))
        expected = estimate(interquartile_mean, [np.array([interpolated(min(at, end), *one) for one in curves])])
        assert (point.value, *point.interval) == pytest.approx((expected.value, *expected.interval))


def test_curves_that_share_no_time_have_no_common_one() -> None:
    grid, heights = on_common_grid([([1.0, 2.0], [0, 1]), ([3.0, 4.0], [0, 1])], 5)
    assert grid.shape == (0,)
    assert heights.shape == (2, 0)
    runs = [Run(seed, 9, 1.0, [1.0], [Point(1, 1, 9.0 * seed), Point(9, 1, 9.0 * seed + 1)]) for seed in (0, 1)]
    apart = replace(row("vae", 5), runs=runs)
    said = conclusions(summarise([task(apart, *PLAYERS)])[0])
    assert "No seconds are shared by all seeds of vae: the figure against seconds is without them." in said


def test_a_report_of_before_is_joined_and_says_what_it_does_not_know(tmp_path, capsys, no_figures) -> None:
    old = write_without(tmp_path / "old", [task(row("vae", 5), row("pixels", 3, "control"), *PLAYERS)])
    write_files(tmp_path / "new", [task(row("points", 6), source="two")], "the command")
    summaries = join_reports((old, tmp_path / "new"), tmp_path / "both", "join")
    curves = {one.label: bool(one.timed_curve) for one in summaries[0].rows if one.row.player is None}
    assert curves == {"vae": False, "points": True, "pixels": False}
    content = json.loads((tmp_path / "both" / "comparison.json").read_text())
    lines = {line["row"]: line for line in content["rows"]}
    assert (lines["vae"]["learning_parameters"], lines["vae"]["frozen_parameters"], lines["vae"]["machine"]) == (None, None, None)
    assert "No seconds are known for the points of the learning curves of vae and pixels: that figure is without them." in conclusions(
        summaries[0]
    )
    page = (tmp_path / "both" / "report.html").read_text()
    assert "on a machine that was not recorded" in page
    assert {line["against"] for line in content["curves"] if line["row"] == "vae"} == {"steps"}
    print_table(summaries)
    assert "learning" in capsys.readouterr().out


def write_without(folder: Path, tasks: list) -> Path:
    """Write a report as an earlier version did."""
    write_files(folder, tasks, "the command")
    content = json.loads((folder / "comparison.json").read_text())
    later = ("learning_parameters", "own_settings", "preset", "tuning")
    for one in content["results"][0]["rows"]:
        for key in later:
            del one[key]
        for run in one["runs"]:
            del run["evaluation_seconds"], run["machine"]
            for point in run["curve"]:
                del point["seconds"]
        if one["encoder"]:
            del one["encoder"]["used_parameters"]
    (folder / "comparison.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def finished(compare, mirrored):  # noqa: F811
    """Return a comparison whose rows on pixels have settings of their own, done in this process, and what was asked for."""
    config = ComparisonConfig(
        environment=TASKS["short"],
        algorithm=PPO,
        evaluation=EvaluationConfig(every=32, episodes=1, final_episodes=1),
        encoders=(mirrored,),
        controls=("pixels", "pixels_same", "finetuned", "untrained"),
        steps=64,
        seeds=1,
        device="cpu",
        run=mirrored.parent / "comparison",
    )
    learning = {"pixels_same": replace(PPO, learning_rate=1e-4), "finetuned": replace(PPO, learning_rate=1e-5)}
    origins = {"": Origin("ppo"), "pixels": Origin("mine", "12 trials"), "pixels_same": Origin("ppo"), "finetuned": Origin("ppo")}
    asked = PartConfig("short", "ppo", config, replace(PPO, n_epochs=2, net_arch=()), learning, origins)
    made = Comparison([asked])
    made.check()
    made.run(lambda outcome: None, lambda progress: None)
    return made, asked


def test_every_row_says_what_it_took_and_weights_are_those_counted_by_hand(finished, mirrored, no_figures) -> None:  # noqa: F811
    made, _ = finished
    summaries = write_report(made, "the command")
    content = json.loads((made.config.run / "comparison.json").read_text())
    found = {line["row"]: line for line in content["rows"]}
    learners = ("conv_vae", *made.config.controls)
    artifact = load_encoder(mirrored)
    weights = artifact.model.state_dict()
    of_encoder = sum(tensor.numel() for name, tensor in weights.items() if name.startswith(("encoder.", "to_posterior.")))
    latents, hidden, choices = artifact.info.latents["mean"][0], PPO.net_arch[0], CHOICES
    on_latents = 2 * (latents * hidden + hidden) + (hidden * choices + choices) + (hidden + 1)
    # Nature's CNN on 64x64 pixels, and no layer behind it
    cnn = (3 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (64 * 4 * 4 * 512 + 512) + (512 * choices + choices) + (512 + 1)
    learning = {"conv_vae": on_latents, "pixels": cnn, "untrained": on_latents}
    learning |= dict.fromkeys(("pixels_same", "finetuned"), on_latents + of_encoder)
    assert {name: found[name]["learning_parameters"] for name in learners} == learning
    frozen = {"conv_vae": of_encoder, "untrained": of_encoder, "pixels": 0, "pixels_same": 0, "finetuned": 0}
    assert {name: found[name]["frozen_parameters"] for name in learners} == frozen
    assert {(found[name]["steps"], found[name]["environment_steps"]) for name in learners} == {(64, 4 * 64)}
    assert {name: found[name]["own_settings"] for name in learners} == {
        "conv_vae": None,
        "untrained": None,
        "pixels": "net_arch none, n_epochs 2",
        "pixels_same": "learning_rate 0.0001",
        "finetuned": "learning_rate 1e-05",
    }
    assert (found["pixels"]["agent_preset"], found["pixels"]["tuning"], found["pixels"]["told"]) == ("mine", "12 trials", None)
    assert summaries[0].rows[0].timed_curve
    assert {line["against"] for line in lines_of(made.config.run, "curves.csv") if line["row"] == "finetuned"} == {"steps", "seconds"}
    assert len(lines_of(made.config.run, "curves.csv")) == len(content["curves"])
    runs = lines_of(made.config.run, "comparison.csv")
    assert runs[0]["machine"] == found["conv_vae"]["machine"]
    assert float(runs[0]["evaluation_seconds"]) == found["conv_vae"]["evaluation_seconds"]
    page = (made.config.run / "report.html").read_text()
    said = ("What a run takes", f"{on_latents + of_encoder:,}", "preset mine; tuned: 12 trials", "with its agent", runs[0]["machine"])
    assert [words for words in said if words not in page] == []


def test_settings_of_every_row_are_remembered(finished) -> None:
    made, asked = finished
    assert made.missing() == []
    assert collect(made, "the command", {})[0].algorithms["PPO"]["finetuned"]["learning_rate"] == 1e-5
    other = replace(asked, learning={**asked.learning, "finetuned": PPO})
    with pytest.raises(UserError, match=r"finetuned_algorithm.learning_rate = 1e-05, but you asked for"):
        Comparison([other]).check()
    # a folder of before knows nothing of them
    path = made.parts[0].folder / "settings.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True)).split("pixels_same_algorithm")[0])
    Comparison([other]).check()


def test_a_preset_for_the_rows_on_pixels(tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("kind: ppo\nn_envs: 4\nlearning_rate: 2.0e-4\ntuning: 12 trials of 50,000 steps\nfinetuned: {learning_rate: 3.0e-5}\n")
    words = ["debug", "--agent", "ppo", "--encoders", "E", "--controls", "pixels", "finetuned", "--run", "r", "--pixel-agent", str(own)]
    (part,) = read_grid("", words)
    assert part.shared.algorithm.learning_rate == 5e-4
    assert part.pixels.learning_rate == part.learning["pixels_same"].learning_rate == 2e-4
    assert part.learning["finetuned"].learning_rate == 3e-5
    assert part.origins["pixels"] == Origin("own", "12 trials of 50,000 steps")
    assert part.origins[""].preset == "ppo"
    assert part.algorithm_of(None) == part.algorithm_of("untrained") == part.shared.algorithm
    with pytest.raises(UserError, match=r"--pixel-agent dqn: is of an algorithm that no --agent is of"):
        read_grid("", [*words[:-2], "--pixel-agent", "dqn"])
    own.write_text("kind: ppo\ntuning: [1]\n")
    with pytest.raises(UserError, match="'tuning' must say in words"):
        read_grid("", words)


def test_what_learns_needs_a_folder(tmp_path) -> None:
    config = ComparisonConfig(environment=TASKS["short"], run=tmp_path, encoders=(Address("http://here:1/RUN"),), controls=("finetuned",))
    with pytest.raises(UserError, match="'finetuned' needs the folder of the encoder that it learns"):
        config.check()
