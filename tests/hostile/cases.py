"""Hostile inputs to whole commands, by kind, each from its number: what is spoilt in a copy of good things, and what is run on it."""

import random
from collections.abc import Callable

from tests.hostile.arguments import arguments
from tests.hostile.documents import documents
from tests.hostile.folders import folders
from tests.hostile.inputs import Case
from tests.hostile.names import names
from tests.hostile.stores import stores
from tests.hostile.weights import checkpoints, hyperparameters, weights

KINDS: dict[str, tuple[Callable[[int, random.Random], Case], int]] = {
    "arguments": (arguments, 88),
    "documents": (documents, 63),
    "weights": (weights, 44),
    "hyperparameters": (hyperparameters, 60),
    "checkpoints": (checkpoints, 40),
    "stores": (stores, 42),
    "folders": (folders, 42),
    "names": (names, 57),
}
"""By kind: what makes a case of a number, and how many there are."""


def case(kind: str, number: int) -> Case:
    """Return a kind's case of that number, the same wherever it is made."""
    return KINDS[kind][0](number, random.Random(f"{kind} {number}"))
