"""How far a comparison is, while it runs: in a terminal a table with a line a row of the grid, elsewhere a few plain lines."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from agents.cluster.board import Progress
from agents.cluster.worker import Outcome
from agents.remote.restarts import RESTARTS
from agents.run.metrics import latest
from comparison.grid import Cell, Part
from foundation.errors import shown
from foundation.progress import Advance, bar_columns, console, progress_bar, say

_HEADINGS = ("done", "run", "wait", "fail", "steps", "steps/s", "return", "restarts")
_WIDTHS = (4, 3, 4, 4, 6, 7, 8, 8)
_GAP, _INDENT = 2, 2
_LEAST_LABEL = 16
_AROUND = 4
"""Lines of the table that are no rows: the headings, one for what does not fit, an empty one, and the bar."""
_IN_WORDS = {"run": "running", "fail": "failed", "done": "finished", "wait": "waiting"}
_RATE_SECONDS = 30.0
_REDRAW_SECONDS = 0.5
_LOOK_SECONDS = 3.0
"""How often the files of a running run are read."""

_EVALUATED, _DIED = "evaluation/return", tuple(f"environments/{cause}" for cause in RESTARTS)


@dataclass(eq=False)
class CellState:
    """How far one run is."""

    cell: Cell
    status: str
    """done, run, wait or fail."""
    steps: int
    score: float | None = None
    """Mean return of its last evaluation."""
    deaths: int = 0
    """Environments that died."""
    restarts: int = 0
    """Times that the run itself was started again."""
    over: bool = False
    """Nothing more will come from it."""
    looked: float = -_LOOK_SECONDS

    def look(self, now: float) -> None:
        """Read what the run has written, now and then."""
        if now - self.looked >= _LOOK_SECONDS:
            self.looked = now
            found = latest(self.cell.folder, _EVALUATED, *_DIED)
            self.score = found.get(_EVALUATED, self.score)
            self.deaths = int(sum(found.get(name, 0) for name in _DIED))


@dataclass(eq=False)
class Line:
    """A row of the grid: its runs, and how fast they are."""

    label: str
    cells: list[CellState]
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Times and steps of the last half minute."""

    def count(self, status: str) -> int:
        return sum(cell.status == status for cell in self.cells)

    @property
    def steps(self) -> int:
        return sum(cell.steps for cell in self.cells)

    def measure(self, now: float) -> None:
        """Remember where the row is, to say how fast it goes."""
        self.seen.append((now, self.steps))
        while self.seen[0][0] < now - _RATE_SECONDS:
            self.seen.popleft()

    def texts(self) -> list[str]:
        """Return what stands under the headings."""
        counts = [str(count) if (count := self.count(status)) else "" for status in ("done", "run", "wait", "fail")]
        scores = [cell.score for cell in self.cells if cell.score is not None]
        restarts = sum(cell.deaths + cell.restarts for cell in self.cells)
        score = f"{np.mean(scores):,.2f}" if scores else ""
        return [*counts, _short(self.steps) if self.steps else "", self._rate(), score, str(restarts) if restarts else ""]

    def _rate(self) -> str:
        if not self.count("run") or len(self.seen) < 2:
            return ""
        (before, few), (now, many) = self.seen[0], self.seen[-1]
        return f"{max(many - few, 0) / max(now - before, 1e-9):,.0f}"


class ProgressTable:
    """A line a row under its task and algorithm, and a bar over all; told by `ended` and `watch`, as `run_jobs` tells it.

    It takes no more lines than the terminal has: then the rows that run or failed go before the others, and a line counts the rest.
    """

    def __init__(self, parts: Sequence[Part], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.sections = _sections(parts)
        self.cells = {state.cell.key: state for lines in self.sections.values() for line in lines for state in line.cells}
        self.bar = Bar(*bar_columns("steps"), console=console)
        total = sum(state.cell.run.steps for state in self.cells.values())
        self.task = self.bar.add_task("all runs", total=total, completed=self.steps)

    @property
    def steps(self) -> int:
        return sum(state.steps for state in self.cells.values())

    def count(self, *statuses: str) -> int:
        """Return how many runs are in one of these states."""
        return sum(state.status in statuses for state in self.cells.values())

    def ended(self, outcome: Outcome) -> None:
        """Take in how a run ended."""
        state = self.cells[outcome.key]
        state.status = {"finished": "done", "failed": "fail", "stopped": "wait"}[outcome.status]
        state.restarts, state.over = outcome.restarts, True
        if outcome.status == "finished":
            state.steps, state.score = state.cell.run.steps, outcome.value["final_return"]
            state.deaths = outcome.value.get("restarts", 0)
        self.bar.update(self.task, completed=self.steps)

    def watch(self, progress: Progress) -> None:
        """Take in what the runs have reported."""
        now = self.clock()
        for key, state in self.cells.items():
            state.restarts = max(progress.restarts.get(key, 0), state.restarts)
            if not state.over:
                state.status = "run" if key in progress.places else "wait"
                # the last rollout may go on beyond what was asked for
                state.steps = min(progress.steps.get(key, state.steps), state.cell.run.steps)
            if state.status == "run":
                state.look(now)
        for lines in self.sections.values():
            for line in lines:
                line.measure(now)
        self.bar.update(self.task, completed=self.steps)

    def __rich_console__(self, terminal: Console, options: ConsoleOptions) -> RenderResult:
        fitting = self._shown(terminal.height - _AROUND)
        yield self._table(terminal.width, [], show_header=True)
        for name, lines in self.sections.items():
            if of_section := [line for line in lines if line in fitting]:
                # beside no numbers, a name may be longer than the labels' column
                yield Text(shown(name), style="bold", no_wrap=True, overflow="ellipsis")
                yield self._table(terminal.width, of_section)
        rest = self._rest(fitting)
        yield Group(*([rest] if rest else []), "", self.bar.get_renderable())

    def _table(self, width: int, lines: Sequence[Line], show_header: bool = False) -> Table:
        """Lay out rows, in columns that are as wide for every part of the table; narrow gaps where the labels need the room."""
        labels = max(len(line.label) for section in self.sections.values() for line in section) + _INDENT
        gap = _GAP if labels + sum(_WIDTHS) + _GAP * len(_WIDTHS) <= width else 1
        room = width - sum(_WIDTHS) - gap * len(_WIDTHS)
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False, show_header=show_header)
        table.add_column("", width=min(labels, max(room, _LEAST_LABEL)), no_wrap=True, overflow="ellipsis")
        for heading, each in zip(_HEADINGS, _WIDTHS, strict=True):
            table.add_column(heading, width=each, justify="right", no_wrap=True)
        for line in lines:
            table.add_row(" " * _INDENT + shown(line.label), *line.texts(), style=_style(line))
        return table

    def _shown(self, room: int) -> list[Line]:
        """Return the rows for which there is room, in the grid's order."""
        lines = [(name, line) for name, section in self.sections.items() for line in section]
        urgent = sorted(range(len(lines)), key=lambda index: (_urgency(lines[index][1]), index))
        chosen: set[int] = set()
        for index in urgent:
            names = {lines[one][0] for one in (*chosen, index)}
            if len(names) + len(chosen) + 1 > room:
                break
            chosen.add(index)
        return [lines[index][1] for index in sorted(chosen)]

    def _rest(self, shown: list[Line]) -> str:
        hidden = [line for lines in self.sections.values() for line in lines if line not in shown]
        if not hidden:
            return ""
        counts = [(sum(line.count(status) for line in hidden), what) for status, what in _IN_WORDS.items()]
        runs = ", ".join(f"{count} runs {what}" for count, what in counts if count)
        return f"  and {len(hidden)} rows more: {runs}"


@contextmanager
def grid_progress(parts: Sequence[Part]) -> Iterator[ProgressTable]:
    """Show how far the grid's runs are, on standard error; the table appears with the first report."""
    if not console.is_terminal:
        table = _PlainTable(parts)
        with progress_bar("comparing", table.total, done=table.steps) as advance:
            table.advance = advance
            yield table
        return
    live = _LiveTable(parts)
    try:
        yield live
    finally:
        live.stop()


class _LiveTable(ProgressTable):
    """Drawn anew after every report, from this thread alone."""

    live: Live | None = None
    drawn = 0.0

    def watch(self, progress: Progress) -> None:
        super().watch(progress)
        if self.live is None:
            self.live = Live(self, console=console, auto_refresh=False, vertical_overflow="crop")
            self.live.start()
        if self.clock() - self.drawn >= _REDRAW_SECONDS:
            self.drawn = self.clock()
            self.live.refresh()

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        if outcome.status == "failed":
            _say_failed(outcome)

    def stop(self) -> None:
        if self.live is not None:
            # draws it once more
            self.live.stop()


class _PlainTable(ProgressTable):
    """A line for every run that ends, and every ten percent of the steps."""

    advance: Advance

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        self.total = sum(state.cell.run.steps for state in self.cells.values())
        self.told = self.steps

    def watch(self, progress: Progress) -> None:
        super().watch(progress)
        if self.steps > self.told:
            self.advance(self.steps - self.told, f"({self.count('done')} of {len(self.cells)} runs)")
            self.told = self.steps

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        if outcome.status == "failed":
            _say_failed(outcome)
        elif outcome.status == "finished":
            ended = f"{self.count('done', 'fail')} of {len(self.cells)} runs"
            say(f"{outcome.key}: mean return {outcome.value['final_return']:.2f} ({ended})")


def _say_failed(outcome: Outcome) -> None:
    say(f"failed: {outcome.key}: {shown(outcome.message)}", style="red")


def _sections(parts: Sequence[Part]) -> dict[str, list[Line]]:
    """Return a line for every row, by task and algorithm; rows that parts share stand under the first."""
    sections: dict[str, list[Line]] = {}
    taken: set[str] = set()
    for part in parts:
        lines = []
        for row in part.rows:
            cells = [cell for cell in part.cells_of(row) if cell.key not in taken]
            if cells:
                lines.append(Line(row.label, [_state(cell) for cell in cells]))
                taken |= {cell.key for cell in cells}
        sections[part.name] = lines
    return sections


def _state(cell: Cell) -> CellState:
    result = cell.result()
    if result is None:
        return CellState(cell, "wait", cell.steps_done(), latest(cell.folder, _EVALUATED).get(_EVALUATED))
    died, again = result.get("restarts", 0), result.get("attempts", 1) - 1
    return CellState(cell, "done", cell.run.steps, result["final_return"], died, again, over=True)


def _urgency(line: Line) -> int:
    return 0 if line.count("run") else 1 if line.count("fail") else 2 if line.count("wait") else 3


def _style(line: Line) -> str | None:
    if line.count("fail"):
        return "red"
    return None if line.count("run") else "dim"


def _short(steps: int) -> str:
    """Return a count in at most six letters."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if steps >= 10 * size:
            return f"{steps / size:.1f}{letter}" if steps < 1000 * size else f"{steps / size:.0f}{letter}"
    return str(steps)
