import pytest

from foundation.errors import UserError
from frames.curation.splits import assign_splits, joined_splits, split_conflicts

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


def near_copies(name: str) -> set[str]:
    return {name, f"{name} again", f"a cut of {name}"}


def test_near_duplicates_share_a_split_and_chains_of_them_too():
    names = sorted(set().union(*(near_copies(name) for name in NAMES[:100])))
    links = [{name, f"{name} again"} for name in NAMES[:100]] + [{f"{name} again", f"a cut of {name}"} for name in NAMES[:100]]
    splits = assign_splits(names, val=0.3, test=0.2, groups=links)
    assert splits.keys() == set(names)
    assert set(splits.values()) == {"train", "val", "test"}
    assert all(len({splits[name] for name in near_copies(name)}) == 1 for name in NAMES[:100])


def test_a_left_out_copy_connects_those_that_stay():
    splits = assign_splits(NAMES, val=0.5, groups=[{name, "left out"} for name in NAMES[:50]])
    assert len({splits[name] for name in NAMES[:50]}) == 1
    assert "left out" not in splits
    assert assign_splits("abc", val=0.5, groups=[{"b", "left out"}], given={"left out": "test"})["b"] == "test"


def test_the_sources_split_decides_for_the_whole_group_and_the_stricter_one_in_doubt():
    groups = [{"a", "b"}, {"c", "d", "e"}]
    given = {"b": "val", "c": "train", "d": "val", "e": "test", "f": "train"}
    splits = assign_splits("abcdef", val=0.5, groups=groups, given=given)
    assert splits == {"a": "val", "b": "val", "c": "test", "d": "test", "e": "test", "f": "train"}
    assert split_conflicts(groups, given) == [("c", "d", "e")]


def test_a_source_of_train_and_test_gives_val_a_share_of_train():
    given = {name: "test" if number % 4 == 0 else "train" for number, name in enumerate(NAMES)}
    splits = assign_splits(NAMES, val=0.2, test=0.5, given=given)
    assert all((splits[name] == "test") == (given[name] == "test") for name in NAMES)
    assert 40 < list(splits.values()).count("val") < 80
    assert set(assign_splits(NAMES, val=0, given=given).values()) == {"train", "test"}


@pytest.mark.parametrize("count", range(2, 7))
def test_val_and_train_are_never_empty_with_groups_and_a_source_without_val(count):
    for start in range(0, 390, count):
        names = NAMES[start : start + count]
        copies = set().union(*map(near_copies, names))
        groups = [near_copies(name) for name in names]
        assert {"train", "val"} <= set(assign_splits(copies, val=0.05, groups=groups, given=dict.fromkeys(names, "train")).values())
        assert {"train", "val"} <= set(assign_splits(copies, val=0.95, groups=groups, given={names[0]: "train"}).values())
        assert "train" in assign_splits(copies, val=0.95, groups=groups, given={names[0]: "val"}).values()


def test_one_group_trains_and_a_source_that_is_all_test_stays_so():
    assert set(assign_splits(near_copies("a"), val=0.5, groups=[near_copies("a")]).values()) == {"train"}
    assert set(assign_splits("abc", val=0.5, given=dict.fromkeys("abc", "test")).values()) == {"test"}
    assert assign_splits("abc", val=0.5, given={"a": "test", "b": "test"}) == {"a": "test", "b": "test", "c": "train"}


def test_what_is_in_a_store_stays_where_it_is_and_newcomers_join_it():
    kept = {"a": "train", "b": "val", "c": "train"}
    splits = assign_splits("abcdef", "by-recording", groups=[{"a", "d"}, {"b", "e"}], given={"d": "test", "f": "test"}, kept=kept)
    assert splits == {**kept, "d": "train", "e": "val", "f": "test"}
    assert assign_splits("abx", "test", kept=kept) == {"a": "train", "b": "val", "x": "test"}


def test_splits_that_are_given_are_final_unless_a_group_joins_them():
    given = dict.fromkeys(NAMES, "train")
    assert joined_splits(NAMES, given, []) == given
    given = {"a": "train", "b": "test", "c": "train", "left out": "val", "d": "train", "e": "train"}
    splits = joined_splits("abcde", given, [{"a", "b"}, {"c", "left out"}, {"left out", "d"}])
    assert splits == {"a": "test", "b": "test", "c": "val", "d": "val", "e": "train"}
    assert joined_splits("ab", {"a": "test", "b": "test"}, []) == {"a": "test", "b": "test"}
