"""What the numbers of an action stand for, as an artifact records it: names, sizes, and the words that are given as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foundation.errors import in_one_line


@dataclass(frozen=True)
class ActionArray:
    """A part of an action: `size` numbers; or one, the place of a word among `texts`, which are sorted."""

    name: str
    size: int
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if list(self.texts) != sorted(set(self.texts)):
            raise ValueError(f"the words of '{self.name}' are not sorted: {in_one_line(', '.join(self.texts))}")


Actions = tuple[ActionArray, ...]


class ActionStore(Protocol):
    """A store of frames with actions: the numbers of its arrays stand side by side in the order of their names."""

    path: Path
    action_names: tuple[str, ...] | None
    action_texts: dict[str, list[str]]
    meta: dict[str, Any]

    def action_width(self, name: str) -> int: ...
    def number_texts(self, texts: Mapping[str, Sequence[str]]) -> None: ...


def stored_actions(store: ActionStore) -> Actions:
    """Return what the numbers of a store's actions stand for."""
    return tuple(ActionArray(name, store.action_width(name), tuple(store.action_texts.get(name, ()))) for name in store.action_names or ())


def size_of(actions: Actions) -> int:
    """Return how many numbers an action has."""
    return sum(array.size for array in actions)


def difference(trained: Actions, offered: Actions) -> str | None:
    """Say in which way offered actions mean something else than those of training; None where each is the same or can be numbered so.

    Words may be missing, since numbers are given by the words of training; there may be none besides.
    """
    known, here = {array.name: array for array in trained}, {array.name: array for array in offered}
    for name in sorted(known.keys() ^ here.keys()):
        return f"'{name}' is missing" if name in known else f"'{name}' is besides"
    for name, array in known.items():
        if unknown := sorted(set(here[name].texts) - set(array.texts)) if array.texts and here[name].texts else []:
            return f"'{name}' may be {', '.join(unknown)}, where training had {', '.join(array.texts)}"
        if bool(array.texts) != bool(here[name].texts):
            words, of = (array.texts, "training's") if array.texts else (here[name].texts, "these")
            return f"'{name}' is given in words in {of} ({', '.join(words)}) and in numbers in the others"
        if array.size != here[name].size:
            return f"'{name}' is {here[name].size} numbers, where training had {array.size}"
    if [array.name for array in trained] != [array.name for array in offered]:
        return "they stand in another order"
    return None


def unrecorded(where: str | Path) -> str:
    """Return the line about an encoder that was saved before actions were recorded."""
    return f"{where}: does not say what the numbers of its actions stand for; whether they mean the same here cannot be checked"
