"""One progress bar for all commands: what, how far, how fast, time left."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from foundation.errors import shown, shown_line, without_controls


class PlainConsole(Console):
    """Prints texts as they are: no markup, no emoji, and nothing in them that a terminal obeys. All that is printed goes through one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # what is no text moves the cursor, and is ours
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text="\n".join(map(without_controls, segment.text.split("\n"))))


console = PlainConsole(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line on standard error, above the bar if one is shown; never wrapped."""
    console.print(shown_line(text), soft_wrap=True, style=style)


def tell_result(text: str = "", style: str | None = None) -> None:
    """Print a line on standard output: what a command came to; never wrapped."""
    PlainConsole().print(shown_line(text), soft_wrap=True, style=style)


def cells(values: Iterable[object]) -> list[str]:
    """Return what stands in a row of a table, as texts from outside are printed."""
    return [shown(value) for value in values]


class Advance(Protocol):
    """Report progress: `advance(n)` more units are done; `note` replaces the text at the end of the bar, `total` an estimated total."""

    def __call__(self, amount: int = 1, note: str | None = None, total: int | None = None) -> None: ...


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}/s" if speed >= 10 else f"{speed:.1f} {self.unit}/s")


def bar_columns(unit: str) -> tuple[ProgressColumn, ...]:
    """Return what a bar shows: what, how far, how fast, time passed and left."""
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        # where the terminal is narrow the bar gives way, and no number goes on in the next line
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rate(unit),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )


@contextmanager
def progress_bar(description: str, total: int | None, unit: str = "steps", done: int = 0) -> Iterator[Advance]:
    """Show a bar on standard error, with rate and time left; without a terminal, print a line every ten percent."""
    description = shown(description)
    if not console.is_terminal:
        yield _plain_lines(description, total, unit, done)
        return
    with Progress(*bar_columns(unit), TextColumn("{task.fields[note]}", markup=False), console=console) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(amount: int = 1, note: str | None = None, total: int | None = None) -> None:
            progress.update(task, advance=amount, total=total)
            if note is not None:
                progress.update(task, note=shown(note))

        yield advance


def _plain_lines(description: str, total: int | None, unit: str, done: int) -> Advance:
    state = {"done": done, "total": total or 0, "printed": done * 10 // total if total else 0}
    began = time.monotonic()

    def advance(amount: int = 1, note: str | None = None, total: int | None = None) -> None:
        state["done"] += amount
        state["total"] = total or state["total"]
        tenth = state["done"] * 10 // state["total"] if state["total"] else state["done"] // 10_000
        if tenth > state["printed"]:
            state["printed"] = tenth
            of = f"/{state['total']}" if state["total"] else ""
            pace = _pace(state["done"] - done, state["total"] - state["done"], time.monotonic() - began, unit)
            say(f"{description}: {state['done']}{of} {unit}, {pace}{'  ' + note if note else ''}")

    return advance


def _pace(done: int, left: int, seconds: float, unit: str) -> str:
    """Say how fast it goes, and how long it still takes where that is known."""
    rate = done / max(seconds, 1e-9)
    shown = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"
    return f"{shown}, {left / rate:,.0f} s left" if left > 0 and rate > 0 else shown
