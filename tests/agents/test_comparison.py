"""A comparison runs what is missing, hides no failure, and concludes no more than its intervals allow."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents import comparison as module
from agents.algorithms import PPOSettings
from agents.comparison import Comparison, Row
from agents.config import ComparisonConfig, EnvironmentConfig, EvaluationConfig
from agents.report import print_table, write_report
from agents.summary import RowSummary, conclusions, summarise
from agents.workers import Outcome
from foundation.errors import UserError

SETTINGS = PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,))


@pytest.fixture
def compare(worlds, tmp_path, monkeypatch):
    """Return a function that runs a comparison in this process and returns it with the keys of what was run."""
    monkeypatch.setattr(module, "local_ray", lambda cpus: __import__("contextlib").nullcontext())
    failing: set[str] = set()

    def in_process(jobs, workers, ended, watch) -> None:
        for job in jobs:
            if job.key in failing:
                ended(Outcome(job.key, "failed", message="the world fell apart"))
            else:
                ended(Outcome(job.key, "finished", job.function(job.argument, lambda steps, note: False)))

    monkeypatch.setattr(module, "run_jobs", in_process)

    def run(fail: tuple[str, ...] = (), **changes):
        failing.clear()
        failing.update(fail)
        settings = {
            "environment": EnvironmentConfig(name="Bright", frame_skip=4),
            "evaluation": EvaluationConfig(every=32, episodes=2, final_episodes=3),
            "algorithm": SETTINGS,
            "steps": 64,
            "controls": ("pixels",),
            "seeds": 2,
            "device": "cpu",
            "run": tmp_path / "comparison",
        }
        made = Comparison(ComparisonConfig(**{**settings, **changes}), SETTINGS)
        done: list[str] = []
        made.run(lambda outcome: done.append(outcome.key), lambda progress: None)
        return made, done

    return run


def test_rerunning_runs_nothing_and_another_seed_only_that_seed(compare) -> None:
    _, first = compare()
    assert sorted(first) == ["pixels/seed0", "pixels/seed1", "random/seed0", "random/seed1"]
    assert compare()[1] == []
    assert sorted(compare(seeds=3)[1]) == ["pixels/seed2", "random/seed2"]


def test_a_failed_run_is_shown_and_stops_no_other(compare, capsys) -> None:
    made, done = compare(fail=("pixels/seed0",))
    assert len(done) == 4
    summaries = write_report(made, "the command")
    assert [len(one.scores) for one in summaries] == [1, 2]
    print_table(made, summaries)
    assert "the world fell apart" in capsys.readouterr().out
    assert "the world fell apart" in (made.config.run / "report.html").read_text()
    assert compare()[1] == ["pixels/seed0"]
    assert summarise(made)[0].failures == []


def test_brackets_in_a_label_are_printed_as_they_are(compare, capsys) -> None:
    made, _ = compare(seeds=1)
    row = Row("vae", "vae (run[red])", "encoder", Path("e"))
    print_table(made, [RowSummary(row, [1.0], [], [], 1.0, (0.5, 1.5))])
    assert capsys.readouterr().out.count("run[red]") == 2


def test_a_row_without_any_result_still_has_its_line(compare) -> None:
    made, _ = compare(fail=("pixels/seed0", "pixels/seed1"))
    write_report(made, "the command")
    rows = json.loads((made.config.run / "comparison.json").read_text())["rows"]
    assert rows[0]["row"] == "pixels"
    assert rows[0]["iqm"] is None
    assert len(rows[0]["failures"]) == 2


def test_the_report_is_one_file_with_its_pictures_inside(compare) -> None:
    made, _ = compare()
    write_report(made, "python compare_encoders.py <debug>")
    page = (made.config.run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page
    assert "&lt;debug&gt;" in page
    assert len((made.config.run / "comparison.csv").read_text().splitlines()) == 1 + 4


def test_other_settings_in_the_same_folder_are_refused(compare) -> None:
    compare()
    with pytest.raises(UserError, match=r"algorithm\.n_epochs|evaluation\.final_episodes"):
        compare(evaluation=EvaluationConfig(every=32, episodes=2, final_episodes=4))
    with pytest.raises(UserError, match="choose another --run"):
        compare(steps=32)


def test_a_mistake_does_not_spoil_the_folder_for_the_right_command(compare, monkeypatch, tmp_path) -> None:
    def unknown(name, **options):
        raise UserError("unknown environment")

    with monkeypatch.context() as patched:
        patched.setattr("envs.make_env", unknown)
        with pytest.raises(UserError, match="unknown environment"):
            compare()
    assert not (tmp_path / "comparison").exists()


def test_encoders_of_the_same_name_and_folder_have_labels_of_their_own() -> None:
    folders = [Path("a/encoder"), Path("b/encoder"), Path("c/mine"), Path("d/components")]
    infos = [SimpleNamespace(name=name, weights_sha256=8 * digit) for name, digit in zip(["vae", "vae", "vae", "pca"], "1234", strict=True)]
    assert module._labels(folders, infos) == [
        "vae (encoder) (11111111)",
        "vae (encoder) (22222222)",
        "vae (mine)",
        "pca (components)",
    ]


def test_overlapping_intervals_conclude_nothing(compare) -> None:
    made, _ = compare(seeds=1)

    def row(name: str, kind, interval: tuple[float, float]) -> RowSummary:
        scores = [sum(interval) / 2] * 5
        return RowSummary(Row(name, name, kind, Path("e")), scores, [], [], scores[0], interval)

    lines = [
        row("vae", "encoder", (4, 6)),
        row("pca", "control", (5, 7)),
        row("pixels", "control", (1, 3)),
        row("oracle", "player", (9, 9)),
    ]
    said = conclusions(made, lines)
    assert "scores higher than pixels;" in said[0]
    assert "scores lower than oracle;" in said[0]
    assert "overlaps with pca, against which nothing can be concluded" in said[0]
    assert not any("Warning" in sentence for sentence in said)
    lines[1].scores = [6.0] * 3
    assert any("Warning: 3 finished seeds" in sentence for sentence in conclusions(made, lines))
