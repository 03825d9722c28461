"""What a search found: the best first, a warning that it is too good, and the next command, on seeds of its own."""

import json
import shlex
from dataclasses import replace

import pytest

from agents.run.config import AgentRun
from agents.run.options import read_command
from comparison.config import ComparisonConfig
from search.config import FIRST_SEED
from search.findings import again, find, shared_options, warning
from search.report import print_findings, write_search_report
from search.search import Record
from search.trials import Reached
from tests.search.made import finding_of


@pytest.mark.parametrize(("first", "expected"), [(FIRST_SEED, 0), (5, 0), (4, 7), (0, 3)])
def test_the_next_command_takes_no_seed_of_the_search(searching, first, expected) -> None:
    search = searching(trials=1, seeds=3, first_seed=first)
    words = shlex.split(again(replace(find(search, ["debug"]), found=[finding_of(search)]), ["debug"]) or "")
    config = read_command(ComparisonConfig, "", words[2:], control="pixels")
    assert (config.first_seed, config.seeds) == (expected, 5)


@pytest.mark.parametrize(("first", "expected"), [(1, 0), (0, 3)])
def test_nor_does_the_one_of_a_single_agent(searching, tmp_path, first, expected) -> None:
    search = searching(trials=1, seeds=3, first_seed=first)
    search.config = replace(search.config, encoder=tmp_path, latents="pooled", control="untrained")
    words = shlex.split(again(replace(find(search, ["debug"]), found=[finding_of(search)]), ["debug"]) or "")
    assert read_command(AgentRun, "", words[2:]).seed == expected


@pytest.fixture
def found(searching):
    """Return a search of four trials: two finished, one stopped early, one failed."""
    search = searching(trials=4)
    with search.remembered():
        pass
    records = [
        Record([Reached(32, 1.0), Reached(128, 2.0)], "finished"),
        Record([Reached(32, 9.0)], "stopped early"),
        Record([], "failed", "the world fell apart"),
        Record([Reached(32, 2.0), Reached(128, 3.5)], "finished"),
    ]
    for trial, record in zip(search.trials, records, strict=True):
        trial.write(record)
    return search


def test_the_best_comes_first_and_a_lucky_start_below_all_that_finished(found, capsys) -> None:
    findings = write_search_report(found, ["debug"])
    assert [one.trial.number for one in findings.found] == [3, 0, 1, 2]
    print_findings(findings, "the next command")
    printed = capsys.readouterr().out
    assert "the world fell apart" in printed
    assert "biased upward" in printed
    assert "the next command" in printed
    folder = found.config.run
    said = json.loads((folder / "search.json").read_text())
    assert [trial["score"] for trial in said["trials"]] == [3.5, 2.0, 9.0, None]
    assert (folder / "search.csv").read_text().splitlines()[1].startswith("3,finished,128,3.5,")
    page = (folder / "report.html").read_text()
    assert "the world fell apart" in page
    assert "<svg" in page
    assert (folder / "scores.png").read_bytes()[:4] == b"\x89PNG"
    assert [trial.number for trial in found.open_trials()] == [2]
    assert not findings.complete


def test_nothing_finished_has_no_best(searching) -> None:
    findings = find(searching(), ["debug"])
    assert again(findings, ["debug"]) is None
    assert "no best one yet" in warning(findings)


def test_the_next_command_is_one_that_compare_encoders_takes(found) -> None:
    argv = ["debug", "--space", "mine.yaml", "--agent", "ppo", "--trials", "4", "--seeds=2", "--seed", "3", "--control", "pixels"]
    argv += ["--algorithm.gamma", "0.5", "--env.episode-ticks", "40", "--run", "search"]
    words = shlex.split(again(find(found, argv), argv))
    assert words[:2] == ["python", "compare_encoders.py"]
    config = read_command(ComparisonConfig, "", words[2:], control="pixels")
    best = found.trials[3].values
    assert (config.controls, config.seeds, config.steps, config.encoders) == (("pixels",), 5, 128, ())
    assert config.environment.options["episode_ticks"] == 40
    for name, value in best.items():
        now = getattr(config.algorithm, name.removeprefix("algorithm."))
        assert (list(now) if isinstance(now, tuple) else now) == value
    assert config.first_seed + config.seeds <= FIRST_SEED


def test_options_of_a_search_do_not_reach_other_commands() -> None:
    argv = [
        "task",
        "--trials",
        "3",
        "--ray.address",
        "auto",
        "--encoder",
        "a",
        "--first-rung=9",
        "--algorithm.net-arch",
        "8",
        "8",
        "--steps",
        "4",
    ]
    assert shared_options(argv, {"algorithm.net_arch": [8]}) == ["task", "--ray.address", "auto", "--steps", "4"]
