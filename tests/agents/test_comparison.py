"""A comparison runs what is missing, hides no failure, and concludes no more than its intervals allow."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents import comparison as module
from agents.algorithms import PPOSettings
from agents.comparison import Comparison
from agents.config import ComparisonConfig, EnvironmentConfig, EvaluationConfig
from agents.report import write_report
from agents.results import collect
from agents.tables import print_table
from agents.workers import Outcome
from foundation.errors import UserError

SETTINGS = PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,))


@pytest.fixture
def compare(worlds, tmp_path, monkeypatch):
    """Return a function that runs a comparison in this process and returns it with the keys of what was run."""
    monkeypatch.setattr(module, "ray_cluster", lambda config, cpus: __import__("contextlib").nullcontext())
    failing: set[str] = set()

    def in_process(jobs, workers, ended, watch, *asked, **options) -> None:
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
    assert [one.fewest_seeds for one in summaries[0].rows] == [1, 2]
    print_table(summaries)
    assert "the world fell apart" in capsys.readouterr().out
    assert "the world fell apart" in (made.config.run / "report.html").read_text()
    assert compare()[1] == ["pixels/seed0"]
    assert collect(made, "the command", {}).rows[0].failures == []


def test_a_row_without_any_result_still_has_its_line(compare) -> None:
    made, _ = compare(fail=("pixels/seed0", "pixels/seed1"))
    write_report(made, "the command")
    rows = json.loads((made.config.run / "comparison.json").read_text())["rows"]
    assert rows[0]["row"] == "pixels"
    assert rows[0]["iqm"] is None
    assert rows[0]["failed"] == 2


def test_a_report_holds_a_film_of_every_row_and_a_line_of_every_run(compare) -> None:
    made, _ = compare()
    write_report(made, "python compare_encoders.py <debug>")
    page = (made.config.run / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 2
    assert "&lt;debug&gt;" in page
    assert len((made.config.run / "comparison.csv").read_text().splitlines()) == 1 + 4
    for name in ("intervals", "curves", "profiles"):
        assert (made.config.run / f"{name}.png").is_file()
        assert (made.config.run / f"{name}.svg").is_file()


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
