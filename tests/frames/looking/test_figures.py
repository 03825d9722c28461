"""The figures of a store are those of what was put into it."""

import json

import numpy as np
import pytest

from frames.looking.figures import store_figures, values_figures


def test_shares_of_buttons_texts_and_numbers():
    assert values_figures(np.array([0, 1, 1, 0, 0]))["in_use"] == 0.4
    texts = values_figures(np.array(["none", "dirt", "none", "none"]))
    assert (texts["kind"], texts["distinct"], texts["shares"]) == ("values", 2, {"none": 0.75, "dirt": 0.25})
    assert values_figures(np.array([3, 3, 7]))["shares"] == {"3": pytest.approx(2 / 3), "7": pytest.approx(1 / 3)}
    camera = values_figures(np.stack([np.arange(-50.0, 51), np.zeros(101)], axis=1))
    assert [component["in_use"] for component in camera["components"]] == [pytest.approx(100 / 101), 0]
    assert camera["components"][0]["quantiles"] == {"0": -50, "5": -45, "25": -25, "50": 0, "75": 25, "95": 45, "100": 50}
    assert sum(camera["components"][0]["histogram"]["counts"]) == 101


def test_many_numbers_a_tick_are_taken_together_and_those_that_are_none_are_counted():
    values = np.random.default_rng(0).normal(0, 1, (500, 64)).astype(np.float32)
    values[7, 3] = np.nan
    figures = values_figures(values)
    assert figures["width"] == 64
    (component,) = figures["components"]
    assert component["not_finite"] == 1
    assert abs(component["quantiles"]["50"]) < 0.05


def test_many_different_texts_are_counted_and_the_commonest_named():
    figures = values_figures(np.array([f"chat {number}" for number in range(300)] + ["chat 7"] * 100))
    assert figures["distinct"] == 300
    assert len(figures["shares"]) == 16
    assert next(iter(figures["shares"])) == "chat 7"


def test_returns_rewards_and_actions_of_a_store(write_store, noise):
    arrays = {
        "a": {"reward": np.array([0, 2, 0, 2.0]), "action.attack": np.array([1, 1, 1, 0])},
        "b": {"reward": np.array([0, 0, 0, 0.0]), "action.attack": np.array([1, 0, 0, 0])},
    }
    figures = store_figures(write_store({"a": noise(5), "b": noise(5, 1), "c": noise(1, 2)}, arrays), listed=2)
    assert figures["rewards"]["reward"]["in_use"] == 0.25
    assert figures["rewards"]["reward"]["rewards"]["shares"] == {"2": 1.0}
    assert figures["rewards"]["reward"]["returns"]["quantiles"]["100"] == 4
    assert figures["rewards"]["reward"]["returns"]["mean"] == 2
    assert figures["actions"]["action.attack"]["in_use"] == 0.5
    assert figures["actions"]["action.attack"]["episodes"] == 2
    assert [episode["name"] for episode in figures["episodes"]] == ["a", "b"]
    assert figures["episode_count"] == 3
    assert json.loads(json.dumps(figures)) == figures


def test_a_large_array_is_sampled_evenly_over_all_episodes(write_store, noise, monkeypatch):
    monkeypatch.setattr("frames.looking.figures._MOST_BYTES", 8 * 50)
    arrays = {name: {"action.attack": np.full(99, name == "b")} for name in ("a", "b")}
    figures = store_figures(write_store({name: noise(100, ord(name)) for name in arrays}, arrays), listed=0)
    assert figures["actions"]["action.attack"]["in_use"] == pytest.approx(0.5, abs=0.05)
    assert figures["actions"]["action.attack"]["ticks"] <= 2 * 99


def test_a_store_without_rewards_and_actions_has_none(write_store, noise):
    figures = store_figures(write_store({"a": noise(5)}), listed=20)
    assert figures["rewards"] == {}
    assert figures["actions"] == {}
    assert sum(split["frames"] for split in figures["splits"].values()) == 5
