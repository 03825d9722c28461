"""The steps of jobs in one progress bar."""

from agents.cluster.board import Progress
from foundation.progress import Advance


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
