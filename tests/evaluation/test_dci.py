"""D, C and I of hand-made codes, for which they are known."""

import math

import numpy as np
import pytest

from evaluation.dci import Target, completeness, disentanglement, judged, told


def entropy(*shares: float) -> float:
    return -sum(share * math.log(share) for share in shares if share)


def test_importance_matrices_by_hand() -> None:
    assert disentanglement(np.eye(3)) == completeness(np.eye(3)) == pytest.approx(1)
    assert disentanglement(np.ones((4, 2))) == completeness(np.ones((4, 2))) == pytest.approx(0)
    # two numbers for two factors: the first tells one, the second both; the third nothing
    importance = np.array([[0.5, 0.0], [0.5, 1.0], [0.0, 0.0]])
    second = 1 - entropy(1 / 3, 2 / 3) / math.log(2)
    assert disentanglement(importance) == pytest.approx(0.25 * 1 + 0.75 * second)
    assert completeness(importance) == pytest.approx(((1 - math.log(2) / math.log(3)) + 1) / 2)
    assert disentanglement(np.zeros((2, 2))) == 0


def codes_of(count: int = 600) -> tuple[np.ndarray, list[Target], np.ndarray]:
    """Codes whose numbers are each one factor, or noise: a class, a number, an angle as its cosine and sine."""
    random = np.random.default_rng(0)
    kinds, number, angle = random.integers(0, 3, count), random.random(count), random.uniform(0, 2 * np.pi, count)
    turn = np.stack([np.cos(angle), np.sin(angle)], 1)
    codes = np.stack([number, 2.0 - kinds, random.normal(size=count), *turn.T], 1)
    return codes, [Target("kind", kinds), Target("number", number), Target("angle", turn)], np.arange(count) // 3


def test_codes_that_are_the_factors_score_one() -> None:
    codes, targets, images = codes_of()
    numbers = judged(codes, targets[:2], images, 50, lambda *_: None)
    assert (numbers["disentanglement"], numbers["completeness"]) == (pytest.approx(1, abs=0.02), pytest.approx(1, abs=0.02))
    assert numbers["informativeness"] == pytest.approx(1, abs=0.01)
    assert numbers["factors"]["kind"] == {"kind": "class", "informativeness": 1.0, "chance": pytest.approx(1 / 3, abs=0.1)}
    # of a class a regressor's output is never exactly the number
    assert numbers["reference"]["informativeness"] < 0.01


def test_codes_that_say_nothing_score_no_more_than_chance() -> None:
    codes, targets, images = codes_of()
    numbers = judged(codes[:, 2:3].repeat(3, 1) + np.random.default_rng(1).normal(size=(600, 3)), targets, images, 20, lambda *_: None)
    assert numbers["factors"]["kind"]["informativeness"] < 0.45
    assert numbers["factors"]["number"]["informativeness"] < 0.1
    assert numbers["disentanglement"] < 0.3


def test_an_angle_is_told_across_its_turn() -> None:
    codes, (_, _, angle), images = codes_of()
    train = images % 2 == 0
    found = told(codes, angle, train, 50)
    assert found.score > 0.98
    assert found.importance[3:].sum() == pytest.approx(1, abs=0.02)
    raw = Target("angle", np.arctan2(angle.values[:, 1], angle.values[:, 0]))
    assert found.score > told(codes, raw, train, 50).score


def test_what_does_not_vary_is_left_out_and_a_class_seen_only_in_testing_counts_as_wrong() -> None:
    codes, (kind, number, _), images = codes_of()
    constant = Target("visible", np.ones(600, np.int64))
    numbers = judged(codes, [number, constant], images, 5, lambda *_: None)
    assert (list(numbers["factors"]), numbers["left_out"]) == (["number"], ["visible"])
    assert judged(codes, [constant], images, 5, lambda *_: None) == {}
    train = kind.values < 2
    found = told(codes, kind, train | (np.arange(600) < 300) & (kind.values < 2), 5)
    assert (found.score, found.chance) == (0, 0)
