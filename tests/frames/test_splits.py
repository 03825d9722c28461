import pytest

from foundation.errors import UserError
from frames.splits import assign_splits

NAMES = [f"recording {number}" for number in range(400)]


def test_a_recording_keeps_its_split_when_others_join():
    few, all_of_them = assign_splits(NAMES[:50]), assign_splits(NAMES)
    assert all(all_of_them[name] == few[name] for name in few)


def test_shares_are_about_what_was_asked_for():
    splits = list(assign_splits(NAMES, val=0.2, test=0.1).values())
    assert 0.14 < splits.count("val") / 400 < 0.26
    assert 0.05 < splits.count("test") / 400 < 0.15


@pytest.mark.parametrize("count", range(2, 8))
def test_val_and_train_are_never_empty_with_two_recordings(count):
    for start in range(0, 390, count):
        for val, test in ((0.1, 0.0), (0.9, 0.05), (0.05, 0.9)):
            splits = set(assign_splits(NAMES[start : start + count], val=val, test=test).values())
            assert {"train", "val"} <= splits


def test_a_single_recording_trains():
    assert all(assign_splits([name], val=0.5) == {name: "train"} for name in NAMES[:20])


def test_nothing_validates_when_told_so():
    assert set(assign_splits(NAMES, val=0).values()) == {"train"}


def test_all_recordings_go_where_told():
    assert set(assign_splits(NAMES, "test").values()) == {"test"}
    with pytest.raises(UserError, match="did you mean 'val'"):
        assign_splits(NAMES, "vall")
    with pytest.raises(UserError, match="leave something"):
        assign_splits(NAMES, val=0.5, test=0.5)
