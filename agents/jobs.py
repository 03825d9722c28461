"""What a job and whoever started it say to each other: how far it is, and that it is to stop."""

from collections.abc import Callable

Report = Callable[[int, str], bool]
"""Called again and again with the steps done and a note, by a run at every rollout boundary; returns whether to stop."""


class Stopped(Exception):
    """The job was asked to stop; its checkpoint is written."""
