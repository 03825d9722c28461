"""Documents that somebody else may have written: JSON of bounded size and depth, from regular files, checked against a dataclass.

Whatever is wrong with one is a `UserError` of one line that names the file, and the key where there is one.
"""

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from foundation.errors import UserError, in_one_line
from foundation.outside import MOST_BYTES, MOST_DEPTH, check_plain, read_regular
from foundation.presets import build

_MOST_LINES_BYTES = 2**30
"""Of a record that grows while a run does."""


def parse(content: Any, where: str | Path, remedy: str = "") -> Any:
    """Return the value that a JSON text holds; raise `UserError` for what is none, is too deep, or holds text that is no Unicode."""
    advice = f"; {remedy}" if remedy else ""
    if not isinstance(content, (str, bytes)):
        raise UserError(f"{where}: must be a text, got {in_one_line(repr(content))}{advice}")
    try:
        value = json.loads(content)
    except RecursionError:
        raise UserError(f"{where}: lists or mappings within one another deeper than {MOST_DEPTH}{advice}") from None
    except ValueError as error:
        raise UserError(f"{where}: damaged, not valid JSON ({in_one_line(error)}){advice}") from error
    check_plain(value, where, advice)
    return value


def read(path: str | Path, remedy: str = "", most: int = MOST_BYTES) -> Any:
    """Return the value that a JSON file holds; raise `UserError` where there is none, or no readable one, with a `remedy`."""
    try:
        content = read_regular(path, most)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}){'; ' if remedy else ''}{remedy}") from error
    return parse(content, path, remedy)


def schema(optional: Mapping[str, Any] | None = None, /, **needed: Any) -> Any:
    """Return a dataclass with fields of these types: those `needed`, and those that a document may lack."""
    may_lack = [(name, hint, dataclasses.field(default=None)) for name, hint in (optional or {}).items()]
    return dataclasses.make_dataclass("Document", [*needed.items(), *may_lack], frozen=True)


def checked(schema: type, values: Any, where: str | Path, remedy: str = "") -> dict[str, Any]:
    """Return a mapping that has what the dataclass `schema` asks for; what the schema does not know stays, unlooked at.

    Raises `UserError` that names the file (`where`) and the key.
    """
    try:
        build(schema, _known(schema, values), "")
    except UserError as error:
        raise UserError(f"{where}: {error}{'; ' if remedy else ''}{remedy}") from error
    return values


def read_checked(schema: type, path: str | Path, remedy: str = "") -> dict[str, Any]:
    """Return the mapping in a JSON file, checked against the dataclass `schema` as `checked` does."""
    return checked(schema, read(path, remedy), path, remedy)


def read_lines(path: str | Path, backwards: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the mappings in a file of JSON lines, none where there is no file. Half a line, which a kill leaves, is none."""
    try:
        lines = read_regular(path, _MOST_LINES_BYTES).splitlines()
    except OSError:
        return
    for line in reversed(lines) if backwards else lines:
        with suppress(UserError):
            if isinstance(value := parse(line, path), dict):
                yield value


@contextmanager
def fitting(where: str | Path, remedy: str) -> Iterator[None]:
    """Raise `UserError` where what a file holds turns out to fit nothing in here: numbers of another shape, a key that is missing."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{where}: does not fit ({type(error).__name__}: {in_one_line(error)}); {remedy}") from error


def _known(hint: Any, value: Any) -> Any:
    """Return a value without the keys that a dataclass in `hint` does not know."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        return {key: _known(hints[key], one) for key, one in value.items() if key in hints}
    inner: Iterable[Any] = typing.get_args(hint)
    if isinstance(value, list):
        return [_known(next(iter(inner), Any), one) for one in value]
    for choice in inner:
        if dataclasses.is_dataclass(choice) and isinstance(value, dict):
            return _known(choice, value)
    return value
