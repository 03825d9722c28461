"""A search runs the trials that its folder says, hides no failure, and repeats nothing that is done."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents.cluster.config import RayConfig
from agents.jobs import Stopped
from agents.run.config import EvaluationConfig
from agents.run.training import train_agent
from foundation.errors import UserError
from search import trials as trials_module
from search.config import FIRST_SEED, read_search
from search.findings import find, warning
from search.running import run_search
from search.search import Record, Search
from search.trials import Reached, advance, encoder_plan, train_encoder
from search.tuning import asha, require_tune, run_trials, take_step
from tests.search.made import SPACE, finding_of

ROOT = Path(__file__).resolve().parents[2]


def never(steps: int, note: str) -> bool:
    return False


def test_what_varies_and_what_is_given_must_go_together(tmp_path) -> None:
    common = ["debug", "--run", str(tmp_path / "search"), "--space"]
    with pytest.raises(UserError, match="--encoder-preset"):
        Search(read_search([*common, "conv_vae", "--control", "pixels"]))
    with pytest.raises(UserError, match=r"no key under 'encoder\.'"):
        Search(read_search([*common, "debug", "--encoder-preset", "conv_vae_tiny", "--store", "s"]))
    with pytest.raises(UserError, match="add --store STORE"):
        read_search([*common, "conv_vae", "--encoder-preset", "conv_vae_tiny"])
    with pytest.raises(UserError, match="leave out --encoder"):
        read_search([*common, "conv_vae", "--encoder-preset", "conv_vae_tiny", "--store", "s", "--encoder", "e"])
    with pytest.raises(UserError, match="an encoder for every trial: train one agent on it"):
        read_search([*common, "debug", "--control", "supervised", "--encoder", "e"])
    with pytest.raises(UserError, match="no encoder given"):
        read_search([*common, "debug"])
    with pytest.raises(UserError, match=r"at least evaluation\.every"):
        read_search([*common, "debug", "--control", "pixels", "--first-rung", "5"])


def test_another_search_in_the_same_folder_is_refused_by_name(searching) -> None:
    with searching().remembered():
        pass
    with searching(trials=5).remembered():
        pass
    with pytest.raises(UserError, match="holds a search with seed = 0, but 1 was asked for"):
        searching(seed=1)
    with pytest.raises(UserError, match=r"space\.algorithm\.n_epochs\.randint"):
        searching(SPACE.replace("[1, 4]", "[1, 5]"))
    with pytest.raises(UserError, match="steps = 128"):
        searching(steps=256)
    with pytest.raises(UserError, match="holds 5 trials, but you asked for 3"):
        searching(trials=3)


def test_a_store_built_again_from_the_same_frames_is_of_another_search(tmp_path, monkeypatch) -> None:
    words = ["debug", "--space", "conv_vae", "--encoder-preset", "conv_vae_tiny", "--store", "s", "--trials", "2", "--run", f"{tmp_path}/r"]

    def of(identity: str) -> Search:
        monkeypatch.setattr(Search, "_store", SimpleNamespace(fingerprint="f", identity=identity))
        return Search(read_search(words))

    with of("rewards too").remembered():
        pass
    of("rewards too")
    with pytest.raises(UserError, match="store_identity = rewards too, but frames alone was asked for"):
        of("frames alone")
    # a search of before wrote down its frames only
    settings = tmp_path / "r" / "config.yaml"
    settings.write_text("".join(line for line in settings.read_text().splitlines(True) if not line.startswith("store_identity")))
    of("frames alone")


@pytest.mark.parametrize("name", ["grid.yaml", "comparison.json", "agent.json"])
def test_a_search_does_not_write_over_the_report_of_a_comparison_or_into_a_run(searching, tmp_path, name) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / name).write_text("{}")
    with pytest.raises(UserError, match=f"taken: holds {name}: a comparison or an agent, not a search; choose another --run"):
        searching(run=folder)


@pytest.mark.parametrize("place", ["trials", "trials/001", "trials/002/seed1000"])
def test_a_link_on_the_way_to_a_trials_runs_is_not_written_through(searching, tmp_path, place) -> None:
    search, elsewhere = searching(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = search.config.run / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{place}: a link, through which another place would be written to"), search.remembered():
        pass
    assert not list(elsewhere.iterdir())


def test_trials_are_what_the_folder_says(searching, tmp_path) -> None:
    with searching().remembered():
        pass
    path = tmp_path / "search" / "trials.jsonl"
    lines = path.read_text().splitlines()
    assert [json.loads(line)["trial"] for line in lines] == [0, 1, 2]
    first = json.loads(lines[0])
    first["values"]["algorithm.gamma"] = 0.95
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    assert searching().trials[0].settings.algorithm.gamma == 0.95
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        searching()


def test_trials_of_somebody_else_choose_nothing_but_what_the_space_varies(searching, tmp_path) -> None:
    with searching().remembered():
        pass
    path = tmp_path / "search" / "trials.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["values"] |= {"environment.name": "worlds.far:Endless-v0", "environment.options": {"python": "/x.sh"}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"trials\.jsonl: damaged, its trials have other values than the space"):
        searching()


def test_rungs_stop_a_run_that_ends_as_if_it_had_never_stopped(searching) -> None:
    search = searching(trials=1)
    plan = search.plan(search.trials[0])
    assert [advance(plan, rung, never).step for rung in (32, 96)] == [32, 96]
    assert advance(plan, 96, never).step == 96
    reached = advance(plan, None, never)
    alone = searching(trials=1, run=search.config.run.with_name("alone"))
    result = train_agent(alone.plan(alone.trials[0]).runs[0], never)
    assert search.results(search.trials[0])[0]["final_returns"] == result["final_returns"]
    assert reached == Reached(128, result["final_return"])


def test_a_trial_scores_the_mean_of_its_agents_with_seeds_of_their_own(searching) -> None:
    search = searching(trials=1, seeds=2, steps=64)
    reached = advance(search.plan(search.trials[0]), None, never)
    results = search.results(search.trials[0])
    assert [result["seed"] for result in results] == [FIRST_SEED, FIRST_SEED + 1]
    assert reached.score == pytest.approx(sum(result["final_return"] for result in results) / 2)


def test_trials_take_the_seeds_they_are_told_and_searches_of_before_go_on(searching) -> None:
    search = searching(trials=1, seeds=3, first_seed=100)
    assert [run.seed for run in search.plan(search.trials[0]).runs] == [100, 101, 102]
    assert "the search's were 100 and up" in warning(replace(find(search, ["debug"]), found=[finding_of(search)]))
    with search.remembered():
        pass
    with pytest.raises(UserError, match="first_seed = 100, but 1000 was asked for"):
        searching(trials=1, seeds=3)
    path = search.config.run / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("first_seed")))
    assert searching(trials=1, seeds=3).config.first_seed == FIRST_SEED


def test_a_trial_asked_to_stop_saves_and_goes_on(searching) -> None:
    search = searching(trials=1)
    plan = search.plan(search.trials[0])
    assert take_step(plan, None, lambda steps, note: steps >= 64) == {"ended": "interrupted", "done": True}
    assert (plan.runs[0].run / "resume.pt").is_file()
    assert take_step(plan, None, never)["steps"] == 128


def test_what_goes_wrong_in_a_trial_is_told_and_not_repeated(searching) -> None:
    search = searching(trials=1)
    plan = search.plan(search.trials[0])

    def raising(error):
        def advance(*_):
            raise error

        return take_step(plan, None, never, advance)

    assert raising(UserError("the user can mend this"))["message"] == "the user can mend this"
    assert raising(ZeroDivisionError("by nothing"))["message"] == "ZeroDivisionError: by nothing"
    assert "ZeroDivisionError" in (search.trials[0].folder / "error.txt").read_text()
    with pytest.raises(OSError, match="gone"):
        raising(OSError("gone"))


def test_half_a_line_of_a_killed_run_is_not_read(tmp_path) -> None:
    line = json.dumps({"step": 64, "evaluation/returns": [1.0, 2.0]})
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 32, "loss": 1.0}) + "\n" + line + "\n" + line[:20])
    assert trials_module.evaluated(tmp_path, 40) == Reached(64, 1.5)
    assert trials_module.evaluated(tmp_path, 65) is None


def test_asha_remembers_what_earlier_commands_measured(searching) -> None:
    search = searching(trials=4)
    for trial, score in zip(search.trials, (1.0, 5.0, 6.0), strict=False):
        trial.write(Record([Reached(32, score)]))
    scheduler = asha(search.config, search.trials)

    class New:
        trial_id = "new"

    scheduler.on_trial_add(None, New)
    assert scheduler.on_trial_result(None, New, {"steps": 32, "score": 2.0}) == "STOP"
    scheduler = asha(search.config, search.trials)
    scheduler.on_trial_add(None, New)
    assert scheduler.on_trial_result(None, New, {"steps": 32, "score": 7.0}) == "CONTINUE"
    assert asha(searching(trials=4, scheduler="none", run=search.config.run.with_name("other")).config, []) is None


def test_equal_encoders_have_one_folder_and_others_another(tmp_path) -> None:
    preset = {"encoder": "conv_vae", "steps": 20, "model": {"beta": 1.0}}
    plans = [encoder_plan(tmp_path, one, Path("s"), store, "cpu", 1).folder for one, store in ((preset, "a"), (dict(preset), "a"))]
    assert plans[0] == plans[1]
    other = {**preset, "model": {"beta": 2.0}}
    assert len({*plans, encoder_plan(tmp_path, other, Path("s"), "a", "cpu", 1).folder}) == 2
    assert len({*plans, encoder_plan(tmp_path, preset, Path("s"), "b", "cpu", 1).folder}) == 2


def test_an_encoder_that_fails_says_why_and_one_under_way_stops_when_asked(tmp_path, monkeypatch) -> None:
    plan = encoder_plan(tmp_path, {"encoder": "conv_vae", "steps": 20}, Path("s"), "a", "cpu", 1)
    (tmp_path / "train_encoder.py").write_text("import sys; sys.exit('error: the frames are gone')")
    monkeypatch.setattr(trials_module, "_ROOT", tmp_path)
    with pytest.raises(UserError, match="its encoder failed: the frames are gone"):
        train_encoder(plan, never)
    assert not plan.trained
    (tmp_path / "train_encoder.py").write_text("import time; time.sleep(60)")
    with pytest.raises(Stopped):
        train_encoder(plan, lambda steps, note: True)


def test_without_tune_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    with pytest.raises(UserError, match=r"\.\[tune\]"):
        require_tune()


@pytest.mark.slow
def test_tune_stops_the_worse_repeats_what_died_and_records_all(searching) -> None:
    space = "algorithm.gamma: {grid: [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]}"
    search = searching(space, trials=7, workers=1, ray=RayConfig(retries=1))

    def pretend(plan, rung, report):
        report(rung or 128, "")
        folder = plan.runs[0].run.parent
        if plan.number == 1:
            raise ZeroDivisionError("by nothing")
        if plan.number == 6 or (plan.number == 3 and not (folder / "died").exists()):
            (folder / "died").touch()
            os._exit(1)
        if plan.number == 5:
            raise OSError("the disk is gone")
        return Reached(rung or 128, {0: 5.0, 2: 1.0, 3: 7.0, 4: 3.0}[plan.number])

    for trial in search.trials:
        trial.folder.mkdir(parents=True)
    ended, seen = [], {}
    with search.remembered():
        received = run_trials(search, lambda trial: ended.append(trial.number), lambda now: seen.update(now.steps), pretend)
    assert received is None
    records = [trial.record() for trial in search.trials]
    assert [record.ended for record in records[:5]] == ["finished", "failed", "stopped early", "finished", "stopped early"]
    assert [record.ended for record in records[5:]] == ["failed", "failed"]
    assert records[1].message == "ZeroDivisionError: by nothing"
    assert [record.restarts for record in records] == [0, 0, 0, 1, 0, 1, 1]
    # Tune may hear that the worker ended before it hears why
    assert records[5].message in {f"given up after 1 restart: {why}" for why in ("OSError: the disk is gone", "its worker died")}
    assert records[6].message == "given up after 1 restart: its worker died"
    assert [reached.step for reached in records[3].scores] == [32, 96, 128]
    assert [reached.step for reached in records[2].scores] == [32]
    assert sorted(ended) == [0, 1, 2, 3, 4, 5, 6]
    assert seen["trial 0"] == 128


@pytest.mark.extended
def test_a_terminated_search_goes_on_and_then_has_nothing_left_to_do(tmp_path) -> None:
    run = tmp_path / "search"
    command = [sys.executable, "tune_agent.py", "debug", "--control", "pixels", "--space", "debug", "--run", str(run)]
    command += ["--trials", "2", "--workers", "1", "--steps", "384", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None and not list(run.glob("trials/*/seed1000/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert list(run.glob("trials/*/seed1000/resume.pt"))
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    results = {path: path.stat().st_mtime_ns for path in run.glob("trials/*/seed1000/result.json")}
    assert len(results) >= 1
    last = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert last.returncode == 0
    assert "2 of them done" in last.stderr
    assert {path: path.stat().st_mtime_ns for path in run.glob("trials/*/seed1000/result.json")} == results


def test_a_wrong_option_of_evaluations_worlds_is_refused_before_ray_starts(searching, monkeypatch) -> None:
    monkeypatch.setattr("search.running.run_trials", lambda *_: pytest.fail("Ray was started"))
    evaluation = EvaluationConfig(every=32, episodes=2, final_episodes=3, environment={"palette": "dry"})
    config = searching(evaluation=evaluation).config
    with pytest.raises(TypeError, match="'palette'"):
        run_search(config, [])
    assert not config.run.exists()
