"""A trial that has done all its steps is finished, whichever rung its last evaluation is the first beyond."""

import json

import pytest

from agents.learning.on_policy import PPOSettings
from agents.run.config import EvaluationConfig
from search.findings import find
from search.search import Record
from search.trials import Reached, advance, evaluated
from search.tuning import take_step


def never(steps: int, note: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("changes", "rungs"),
    [
        # evaluations after 20,480 steps and, beyond 45,000, at the end alone
        ({"steps": 50_000, "first_rung": 15_000}, [15_000]),
        # a rollout of 2,048 steps: after 28,672 comes 30,720, which is the end
        ({"steps": 30_500, "n_steps": 256}, [10_000]),
        ({"steps": 31_000, "n_steps": 256}, [10_000, 30_000]),
        ({"steps": 50_000}, [10_000, 30_000]),
        ({"steps": 50_000, "first_rung": 45_000}, []),
        ({"steps": 50_000, "scheduler": "none"}, []),
        # due at 20,000, at the first look at a run after that: beyond the rung
        ({"steps": 25_000, "first_rung": 20_100, "n_steps": 256}, [20_100]),
    ],
)
def test_a_rung_is_where_a_trial_is_evaluated_before_its_end(searching, changes, rungs) -> None:
    algorithm = PPOSettings(n_envs=8, n_steps=changes.pop("n_steps", 64), batch_size=64)
    search = searching(algorithm=algorithm, evaluation=EvaluationConfig(every=10_000), trials=1, **changes)
    assert search.config.rungs == rungs


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_trial_whose_next_evaluation_is_its_last_is_finished(searching, seeds: int) -> None:
    search = searching(trials=1, seeds=seeds, evaluation=EvaluationConfig(every=64, episodes=1, final_episodes=2), first_rung=64)
    assert search.config.rungs == [64]
    plan = search.plan(search.trials[0])
    assert take_step(plan, 64, never)["steps"] == 64
    # a rung that a search of before had, or one that this trial's longer rollouts pass together with the end
    told = take_step(plan, 100, never)
    assert (told["steps"], told["ended"], told["done"]) == (128, "finished", True)
    results = search.results(search.trials[0])
    assert len(results) == seeds
    assert told["score"] == pytest.approx(sum(one["final_return"] for one in results) / seeds)


def test_a_trial_killed_between_its_last_evaluation_and_its_result_gets_one(searching) -> None:
    search = searching(trials=1)
    plan = search.plan(search.trials[0])
    before = advance(plan, None, never)
    (plan.runs[0].run / "result.json").unlink()
    assert evaluated(plan.runs[0].run, 100) == before
    assert take_step(plan, 100, never)["ended"] == "finished"
    assert len(search.results(search.trials[0])) == 1


def test_a_search_of_before_that_called_it_stopped_has_a_best_trial(searching) -> None:
    search = searching()
    records = [
        Record([Reached(64, 1.0), Reached(128, 3.0)], "stopped early"),
        Record([Reached(64, 9.0)], "stopped early"),
        Record([Reached(64, 1.0), Reached(128, 2.0)], "finished"),
    ]
    with search.remembered():
        for trial, record in zip(search.trials, records, strict=True):
            trial.write(record)
    found = find(search, ["debug"])
    assert [(one.trial.number, one.record.ended) for one in found.found] == [(0, "finished"), (2, "finished"), (1, "stopped early")]
    assert found.best
    assert found.best.score == 3.0
    assert searching().open_trials() == []
    assert json.loads((search.trials[0].folder / "trial.json").read_text())["ended"] == "stopped early", "reading a folder writes nothing"


def test_a_trial_goes_on_at_the_rung_after_its_last_score_whatever_rungs_there_were(searching) -> None:
    config = searching().config
    assert config.rungs == [32, 96]
    # one evaluation may pass several rungs
    assert [config.passed(step) for step in (31, 32, 64, 96, 128)] == [0, 1, 1, 2, 2]
