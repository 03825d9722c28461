"""What jobs report: one small actor that workers tell how far they are, and that tells them to stop."""

from dataclasses import dataclass, field
from typing import Any

from foundation.progress import Advance


@dataclass
class Progress:
    """What jobs have reported, by key: steps, a note, how often each was started again, and where it runs."""

    steps: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Node, CPUs and GPU that a job got; without an entry it waits for them."""
    told: list[str] = field(default_factory=list)
    """Lines for the user, each once."""


class TotalSteps:
    """Shows the steps of all jobs in one bar; where one goes on from a checkpoint, the bar waits for it."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.shown = advance, 0

    def __call__(self, progress: Progress) -> None:
        total = sum(progress.steps.values())
        notes = [note for note in progress.notes.values() if note]
        if total > self.shown:
            self.advance(total - self.shown, notes[-1] if notes else None)
            self.shown = total


@dataclass(frozen=True)
class TellBoard:
    """Tells a board lines for the user; may travel to other processes of the same Ray."""

    board: Any

    def __call__(self, line: str) -> None:
        import ray

        ray.get(self.board.tell.remote(line))


class Board:
    """Where workers report to, and learn that they are to stop. It forgets in dying, and the next reports fill it again."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.stopping = False

    def report(self, key: str, steps: int, note: str, place: str = "") -> bool:
        self.progress.steps[key] = steps
        self.progress.notes[key] = note
        if place:
            self.place(key, place)
        return self.stopping

    def place(self, key: str, place: str) -> None:
        self.progress.places[key] = place

    def forget(self, key: str) -> None:
        """Forget where a job ran that starts again; its steps stay until it reports those of its checkpoint."""
        self.progress.places.pop(key, None)

    def tell(self, line: str) -> None:
        if line not in self.progress.told:
            self.progress.told.append(line)

    def read(self) -> Progress:
        return self.progress

    def stop(self) -> None:
        self.stopping = True
