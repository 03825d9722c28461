"""What happened in several ticks is joined by kind: the same, span by span, as a loop over the ticks gives."""

import numpy as np
import pytest

from foundation.ticks import adds_up, join_ticks, joining

BEGINS = np.array([0, 1, 5, 6, 13])
TICKS = 20


def joined_by_hand(how: str, ticks: list) -> object:
    if how == "sum":
        return sum(ticks)
    if how == "max":
        return max(ticks)
    if how == "mean":
        return sum(ticks) / len(ticks)
    return next((tick for tick in reversed(ticks) if tick not in (0, "none", "")), ticks[-1])


@pytest.mark.parametrize(
    ("how", "values"),
    [
        ("sum", np.random.default_rng(0).normal(size=TICKS)),
        ("sum", np.random.default_rng(1).integers(0, 256, TICKS).astype(np.uint8)),
        ("max", np.random.default_rng(2).integers(0, 2, TICKS).astype(np.float32)),
        ("mean", np.random.default_rng(3).normal(size=TICKS)),
        ("last", np.random.default_rng(4).integers(0, 3, TICKS) * np.random.default_rng(5).integers(0, 2, TICKS)),
        ("last", np.array(["none", "dirt", "none", "none", ""] * 4)),
        ("last", np.random.default_rng(6).integers(0, 2, TICKS).astype(bool)),
    ],
)
def test_spans_are_joined_as_a_loop_joins_them(how, values):
    spans = [values[begin:end].tolist() for begin, end in zip(BEGINS, [*BEGINS[1:], TICKS], strict=True)]
    expected = [joined_by_hand(how, span) for span in spans]
    found = join_ticks(values, BEGINS, how)
    assert found.tolist() == (pytest.approx(expected) if values.dtype.kind == "f" else expected)
    # several numbers a tick: each for itself
    both = join_ticks(np.stack([values, values[::-1]], axis=1), BEGINS, how)
    assert np.array_equal(both[:, 0], found)
    assert np.array_equal(both[:, 1], join_ticks(values[::-1], BEGINS, how))
    # a tick alone stays what it is
    assert np.array_equal(join_ticks(values, np.arange(TICKS), how), values)
    assert join_ticks(values, BEGINS[:0], how).shape == (0,)


@pytest.mark.parametrize("how", ["max", "mean", "last"])
def test_what_is_held_over_a_span_stays_what_it_is(how):
    held = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    assert np.array_equal(join_ticks(np.repeat(held, 4, axis=0), np.arange(0, 20, 4), how), held)


def test_numbers_that_stand_for_texts_are_idle_where_the_text_is():
    # sorted texts: dirt, none, stone
    assert join_ticks(np.array([1.0, 0.0, 1.0, 1.0, 1.0]), np.array([0, 3]), "last", idle=(1.0,)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "dtype", "how"),
    [
        ("reward", "f4", "sum"),
        ("reward.1", "f8", "sum"),
        ("action.camera", "f4", "sum"),
        ("action.camera_x", "i8", "sum"),
        ("action.camera", "i8", "last"),
        ("action.attack", "u1", "last"),
        ("action.attack", "f4", "max"),
        ("action.hotbar.3", "u1", "last"),
        ("action.place", "U8", "last"),
        ("action.craft", "i8", "last"),
        ("action.vector", "f4", "mean"),
        ("action.turn", "f8", "mean"),
        ("action", "i8", "last"),
        ("action", "f4", "mean"),
    ],
)
def test_arrays_are_joined_by_what_they_hold(name, dtype, how):
    assert joining(name, np.dtype(dtype)) == how
    assert adds_up(name, np.dtype(dtype)) == (how == "sum")
