"""What a model is trained on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from encoders.artifact import StoreReference


class Batches(Protocol):
    """An endless iterator with a saved position, over batches with `.frames` uint8 (B, T, H, W, C) and `.actions` or None."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class TrainingData:
    """Training batches, held-out batches, a sample for statistics, and the store that all of them come from."""

    batches: Batches
    validation: Callable[[], Iterable[Any]]
    """Gives the finite batches of held-out recordings, the same ones at every call."""
    sample: Callable[[], Any]
    """Gives one batch of training frames, in sequences for models with memory, for the statistics of the readings."""
    store: StoreReference
