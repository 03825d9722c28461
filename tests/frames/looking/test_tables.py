"""What a terminal shows: everything counted, long lists shortened, nothing cut."""

import io

import numpy as np
import pytest

from foundation.progress import PlainConsole
from frames.looking.figures import store_figures
from frames.looking.tables import bar, labels_line, left_out_lines, sparkline, store_tables
from frames.storage.format import LeftOut

NAME = "v3/MineRLObtainIronPickaxe-v0/v3_absolute_grape_changeling-16_2277-4441 [x]"


def test_a_long_list_of_what_is_left_out_is_counted_and_shortened():
    left_out = [LeftOut(f"{number}.mp4", "truncated", frames=10, fault=number < 30) for number in range(45)]
    lines = list(left_out_lines(left_out, {"lead": 3, "tail": 0, "frozen": 1000}, "inspect has them"))
    assert lines[0] == "left out: 45 (30 unreadable, 15 unwanted, 450 frames as far as known)"
    assert lines[1] == "left out: 0.mp4: truncated"
    assert lines[21] == "left out: and 25 more: inspect has them"
    assert lines[22] == "trimmed: 1,003 frames (3 at the start, 1,000 frozen)"
    assert list(left_out_lines([], {"lead": 0}, "")) == []


def test_bars_are_as_long_as_their_share_and_no_filled_bin_looks_empty():
    assert [bar(share, 4).rstrip() for share in (0, 0.25, 0.5, 1, 2)] == ["", "█", "██", "████", "████"]
    assert sparkline([0, 1, 500, 1000]) == " ▁▄█"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_tables_keep_to_the_terminal_and_names_stay_whole(write_store, noise, width):
    ticks = 59
    arrays = {
        "reward": np.arange(ticks) % 3.0,
        "action.camera": np.random.default_rng(0).normal(0, 5, (ticks, 2)),
        "action.craft": np.array(["none", "crafting_table", "stone_pickaxe"] * ticks)[:ticks],
        "action.vector": np.ones((ticks, 64)),
    }
    store = write_store({NAME: noise(60), "short": noise(60, 1)}, {NAME: arrays})
    shown = io.StringIO()
    console = PlainConsole(file=shown, width=width)
    for table in store_tables(store_figures(store, listed=2)):
        console.print(table)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    cells = "".join(line.split("  ")[0].strip() for line in lines)
    assert NAME in cells
    for shown_name in ("camera[0]", "camera[1]", "craft", "vector (all 64)"):
        assert shown_name in cells


@pytest.mark.parametrize("both", [False, True])
def test_actions_that_reach_no_clip_are_told(write_store, noise, both):
    actions = {"action.jump": np.ones(4)}
    store = write_store({"a": noise(5), "b": noise(5, 1)}, {"a": actions, "b": actions if both else {}})
    console = PlainConsole(file=io.StringIO(), width=100)
    console.print(*store_tables(store_figures(store, 2)))
    assert ("clips have no actions" in console.file.getvalue()) == (store.action_windows([0], 2) is None) == (not both)


def test_a_line_says_what_there_is_to_learn_from(write_store, noise, tmp_path):
    rewards, beside = np.zeros(19), {"action.camera": np.ones((19, 2)), "observation.state.pitch": np.zeros(20, np.float32)}
    rewards[[3, 4]] = (2.0, -1.0)
    store = write_store({"a": noise(20), "b": noise(20, 1)}, {"a": {"reward": rewards, **beside}, "b": {"reward": np.zeros(19), **beside}})
    line = labels_line(store_figures(store, 0)["labels"])
    expected = "labels: rewards (1 of 38 steps rewarded, in 1 of 2 episodes), actions (2 numbers), state (1 numbers); no segmentation"
    assert line == expected
    bare = write_store({"a": noise(5)}, path=tmp_path / "bare")
    assert labels_line(store_figures(bare, 0)["labels"]) == "labels: no rewards, actions, state, segmentation"
