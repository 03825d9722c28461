"""The figures of a store as tables for a terminal."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from foundation.errors import shown, shown_line
from foundation.progress import PlainConsole
from frames.storage.format import SPLITS, LeftOut

LISTED = 20
_BAR = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"
_MOST_SHARES = 3
_MOST_LETTERS = 16
_TRIMMED = {"lead": "at the start", "tail": "at the end", "frozen": "frozen"}
_LOOKS = ("frames", "frames/s", "brightness", "dark", "frozen")
_VALUES = "values, or min … 5% [median] 95% … max"

# piped into a file or a program, lines keep their length
console = PlainConsole(width=None if sys.stdout.isatty() else 1000)


def print_line(line: str) -> None:
    """Print a line on standard output, brackets as they are."""
    console.print(shown_line(line), soft_wrap=True)


def store_tables(figures: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the tables of `figures.store_figures`, what there is nothing to say about left out."""
    yield _split_table(figures["splits"])
    if set(figures["tasks"]) != {""}:
        yield _task_table(figures["tasks"])
    if figures["rewards"]:
        yield _reward_table(figures["rewards"])
    if figures["actions"]:
        yield _action_table(figures["actions"], in_clips=figures["action_names"] is not None)
    yield Text(labels_line(figures["labels"]))
    if figures["episodes"]:
        yield _episode_table(figures["episodes"], figures["episode_count"])


def labels_line(labels: Mapping[str, Any]) -> str:
    """Say in a line what there is to learn from beside the frames."""
    rewards, episodes = f"{labels['rewarded']:,} of {labels['steps']:,} steps", f"{labels['rewarded_episodes']:,} of {labels['episodes']:,}"
    held = {
        f"rewards ({rewards} rewarded, in {episodes} episodes)": labels["steps"],
        f"actions ({labels['action_numbers']} numbers)": labels["action_numbers"],
        f"state ({len(labels['state'])} numbers)": labels["state"],
        "segmentation": labels["segmentation"],
    }
    lacking = ", ".join(name.partition(" (")[0] for name, there in held.items() if not there)
    found = ", ".join(name for name, there in held.items() if there)
    return "labels: " + "; ".join(part for part in (found, f"no {lacking}" if lacking else "") if part)


def left_out_lines(left_out: list[LeftOut], trimmed: Mapping[str, int], rest: str) -> Iterator[str]:
    """Yield what did not go in: counted, then the first 20 by name; `rest` says where the others stand."""
    if left_out:
        frames = sum(entry.frames or 0 for entry in left_out)
        unreadable = sum(entry.fault for entry in left_out)
        known = f", {frames:,} frames as far as known" if frames else ""
        yield f"left out: {len(left_out):,} ({unreadable:,} unreadable, {len(left_out) - unreadable:,} unwanted{known})"
        for entry in left_out[:LISTED]:
            yield f"left out: {printable(entry.name)}: {printable(entry.reason)}"
        if len(left_out) > LISTED:
            yield f"left out: and {len(left_out) - LISTED:,} more: {rest}"
    if any(trimmed.values()):
        parts = ", ".join(f"{count:,} {_TRIMMED.get(part, part)}" for part, count in trimmed.items() if count)
        yield f"trimmed: {sum(trimmed.values()):,} frames ({parts})"


def printable(name: str) -> str:
    """File names may hold bytes that are no text, line breaks, and what a terminal obeys."""
    return shown(name)


def bar(share: float, width: int = _BAR) -> str:
    """Return a bar of `width` characters, `share` in [0, 1] of it filled."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(counts: list[int]) -> str:
    """Return a character for each bin, as high as its count; a bin that is not empty never looks empty."""
    most = max(counts, default=0)
    return "".join(_HEIGHTS[max(1, round(8 * count / most))] if count else " " for count in counts)


def _split_table(splits: Mapping[str, Mapping[str, Any]]) -> Group:
    names = ("episodes", "frames", "minutes", "brightness", "dark", "frozen")
    table = _table("split", *map(_right, names))
    for split, seen in splits.items():
        counts = (f"{seen['episodes']:,}", f"{seen['frames']:,}", f"{seen['minutes']:.1f}")
        table.add_row(split, *counts, f"{seen['brightness']:.0f}", f"{seen['dark']:.1%}", f"{seen['frozen']:.1%}")
    sampled = sum(seen["looked_at"] for seen in splits.values())
    return _captioned(table, f"brightness (0 to 255), dark (below 26) and frozen from {sampled:,} evenly spread frames")


def _task_table(tasks: Mapping[str, Mapping[str, int]]) -> Table:
    filled = [split for split in SPLITS if any(counts[split] for counts in tasks.values())]
    table = _table(_folding("task"), _right("episodes"), *(_right(f"{split} frames") for split in filled))
    for task, counts in tasks.items():
        table.add_row(printable(task) or "(none told)", f"{counts['episodes']:,}", *(f"{counts[split]:,}" for split in filled))
    return table


def _reward_table(rewards: Mapping[str, Mapping[str, Any]]) -> Group:
    table = _table("reward", _right("not 0"), "", _VALUES)
    for name, figures in rewards.items():
        kind = f"{printable(name.removeprefix('reward.'))}: " if len(rewards) > 1 else ""
        table.add_row(f"{kind}a tick", f"{figures['in_use']:.1%}", bar(figures["in_use"]), _rewards_given(figures["rewards"]))
        table.add_row(f"{kind}an episode", f"{figures['returns'].get('in_use', 0):.1%}", *_histogram(figures["returns"]))
    ticks, episodes = (max(figures[key] for figures in rewards.values()) for key in ("ticks", "episodes"))
    return _captioned(table, f"from {ticks:,} ticks of {episodes:,} episodes; values of a tick without the zeros")


def _rewards_given(figures: Mapping[str, Any]) -> str:
    """The rewards that are not 0."""
    if figures["kind"] == "numbers":
        return _quantiles(figures["components"][0])
    return "all 1" if figures["kind"] == "binary" else _value_shares(figures)


def _action_table(actions: Mapping[str, Mapping[str, Any]], in_clips: bool) -> Group:
    table = _table(_folding("action"), _right("in use"), "", _VALUES)
    for name, figures in actions.items():
        short = printable(name.removeprefix("action."))
        if figures["kind"] == "binary":
            table.add_row(short, f"{figures['in_use']:.1%}", bar(figures["in_use"]), "")
        elif figures["kind"] == "values":
            idle = figures["shares"].get("none", figures["shares"].get("0", 0.0))
            table.add_row(short, f"{1 - idle:.1%}", bar(1 - idle), _value_shares(figures))
        else:
            for number, component in enumerate(figures["components"]):
                place = f"[{number}]" if figures["width"] > 1 else ""
                place = f" (all {figures['width']})" if figures["width"] > len(figures["components"]) else place
                table.add_row(short + place, f"{component.get('in_use', 0):.1%}", *_histogram(component))
    ticks, episodes = (max(figures[key] for figures in actions.values()) for key in ("ticks", "episodes"))
    caption = f"from up to {ticks:,} ticks of {episodes:,} episodes; in use: not 0 and not 'none'"
    return _captioned(table, caption if in_clips else f"{caption}\nclips have no actions: not all ordered recordings have the same ones")


def _episode_table(episodes: list[Mapping[str, Any]], count: int) -> Group:
    together = len({tuple(episode["arrays"]) for episode in episodes}) == 1
    table = _table(_folding("episode"), "split", *map(_right, _LOOKS), *([] if together else ["arrays"]))
    for episode in episodes:
        shares = (f"{episode['brightness']:.0f}", f"{episode['dark']:.0%}", f"{episode['frozen']:.0%}")
        held = [] if together else [_held(episode)]
        name = printable(episode["name"])
        table.add_row(name, episode["split"], f"{episode['frames']:,}", f"{episode['frames_per_second']:g}", *shares, *held)
    listed = f"the longest {len(episodes):,} of {count:,}; --episodes shows more" if len(episodes) < count else f"all {count:,} episodes"
    return _captioned(table, listed + (f"; arrays of each: {_held(episodes[0])}" if together else ""))


def _held(episode: Mapping[str, Any]) -> str:
    return printable(", ".join(episode["arrays"])) or "none"


def _histogram(component: Mapping[str, Any]) -> tuple[str, str]:
    """The picture and the quantiles of numbers."""
    if "histogram" not in component:
        return "", "no finite number"
    return sparkline(component["histogram"]["counts"]), _quantiles(component)


def _quantiles(component: Mapping[str, Any]) -> str:
    if "quantiles" not in component:
        return "no finite number"
    low, left, _, middle, _, right, high = component["quantiles"].values()
    missing = f", {component['not_finite']:,} not finite" if component["not_finite"] else ""
    return f"{low:.4g} … {left:.4g} [{middle:.4g}] {right:.4g} … {high:.4g}{missing}"


def _value_shares(figures: Mapping[str, Any]) -> str:
    """The commonest values, and how many others there are."""
    commonest = [f"{_shortened(value)} {share:.1%}" for value, share in list(figures["shares"].items())[:_MOST_SHARES]]
    others = figures["distinct"] - len(commonest)
    return ", ".join([*commonest, *([f"{others:,} more"] if others else [])])


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _captioned(table: Table, caption: str) -> Group:
    """A table with a line below, which may be longer than the table is wide."""
    return Group(table, Text(caption, style="italic"))


def _right(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _folding(name: str) -> Column:
    """A column of names: where the terminal is narrow they go on in the next line, whole."""
    return Column(name, overflow="fold")
