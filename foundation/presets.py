"""Typed dataclasses as the schema, YAML presets as their defaults, tyro as the command line."""

import contextlib
import dataclasses
import io
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro
import yaml

from foundation.errors import UserError, in_one_line, nearest, shown
from foundation.limits import refuse_odd_numbers
from foundation.outside import check_plain, read_regular
from foundation.places import Address, Views

_MOST_YAML_BYTES = 2**20
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def preset_names(kind: str) -> list[str]:
    """List the presets of a kind: the YAML files of `configs/<kind>/`."""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))


def read_preset(kind: str, name: str) -> dict[str, Any]:
    """Read a preset by name, or from a path that ends in `.yaml`, as a plain mapping."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / kind / f"{name}.yaml"
    if not os.path.isfile(path):
        raise UserError(f"no {kind} preset '{name}': {nearest(name, preset_names(kind))}")
    return read_yaml(path)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping with `safe_load`."""
    try:
        content = yaml.safe_load(read_regular(path, _MOST_YAML_BYTES).decode())
    # PyYAML raises ValueError for impossible dates and numbers of 5000 digits
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {in_one_line(error, 300)}") from error
    check_plain(content, path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a mapping of keys to values")
    return content


def build(schema: type, values: Any, where: str = "", missing: Any = None) -> Any:
    """Make an instance of the dataclass `schema` from a mapping, strictly.

    An unknown key, a missing key or a value of the wrong type raises a `UserError` that names the key.
    `missing` stands in for top-level fields without a value, where the command line still has to give them.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where or schema.__name__}: must be a mapping of keys to values, got {in_one_line(repr(values))}")
    hints = typing.get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}
    for key in values:
        if key not in fields:
            raise UserError(f"unknown key '{_join(where, shown(key))}': {nearest(str(key), fields)}")
    converted = {key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            if missing is None:
                raise UserError(f"missing key '{_join(where, name)}'")
            converted[name] = missing
    try:
        return schema(**converted)
    except (ArithmeticError, ValueError) as error:
        raise UserError(f"{where + ': ' if where else ''}{error}") from error


def to_dict(config: Any) -> Any:
    """Turn a dataclass into plain mappings, lists and scalars that YAML and JSON can hold."""
    if isinstance(config, (Path, Address, Views)):
        return str(config)
    if dataclasses.is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(value) for value in config]
    return config


def command_line(
    kind: str,
    schema: type | Callable[[dict[str, Any]], type],
    description: str,
    argv: Sequence[str] | None = None,
) -> Any:
    """Parse `PRESET [--field value ...]` into a dataclass.

    The first argument names a preset of `configs/<kind>/` or a YAML file; options override its fields.
    `schema` is the dataclass, or a function that chooses it from the preset's mapping.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    program = Path(sys.argv[0]).name
    if not argv or argv[0].startswith("-"):
        names = ", ".join(preset_names(kind))
        usage = f"usage: python {program} PRESET [OPTIONS]\n\n{description}\n\npresets: {names}, or a path to a YAML file\n"
        if argv and argv[0] in ("-h", "--help"):
            print(usage + f"\nThe options of a preset: python {program} PRESET --help")
            raise SystemExit(0)
        raise UserError(f"name a preset first: python {program} PRESET [OPTIONS]; presets: {names}")
    values = read_preset(kind, argv[0])
    chosen = schema if isinstance(schema, type) else schema(values)
    return parse(chosen, description, argv[1:], default=build(chosen, values, missing=tyro.MISSING), program=f"{program} {argv[0]}")


def parse(schema: Any, description: str, argv: Sequence[str] | None = None, default: Any = None, program: str | None = None) -> Any:
    """Parse options into the dataclass `schema` with tyro; `default` gives the values that options override.

    Without a default, what is yes or no is a flag (`--append`, `--no-append`).
    """
    # a preset may have said yes to what its command line takes back: there, options of yes and no are written out
    config = () if default is None else (tyro.conf.FlagConversionOff,)
    keywords = {} if default is None else {"default": default}
    for word in argv or ():
        # a path that is empty would be the folder one is in
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise UserError(f"an option is empty, such as --run ''; see python {program or Path(sys.argv[0]).name} --help")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(schema, args=argv, prog=program, description=description, config=config, **keywords)
    except (ArithmeticError, ValueError) as error:
        raise UserError(in_one_line(error, 300)) from error
    except SystemExit as stopped:
        # 0 after the help, 143 by SIGTERM
        if stopped.code != 2:
            raise
        raise UserError(_one_line(complaint.getvalue(), program or Path(sys.argv[0]).name)) from None
    refuse_odd_numbers(parsed)
    return parsed


def _one_line(box: str, program: str) -> str:
    """Return what tyro's framed message says: the mistakes, the nearest option, and where all options are listed."""
    mistakes, suggestion = [], ""
    for section in re.split(r"\n│ ─+ │\n", _framed(box)):
        lines = [line.strip("│ ") for line in section.splitlines() if line.startswith("│")]
        head, words = lines[0], " ".join(lines).partition(" Got errors:")[0]
        if head.startswith("Missing from"):
            # options are indented once, what is said of them twice
            missing = re.findall(r"(?m)^│ {5}(\S.*?) *│$", section)
            mistakes.append(f"missing: {', '.join(missing)}")
        elif head.startswith(("Perhaps you meant", "Arguments similar to")):
            suggestion = suggestion or f"did you mean {lines[1].split()[0]}? "
        elif not head.startswith(("For full helptext", "Argument helptext")):
            mistakes.append(words.rstrip(". "))
    return f"{'; '.join(mistakes)}; {suggestion}see python {program} --help"


def _framed(box: str) -> str:
    """Return tyro's message with its frame, which is of blanks and hyphens where standard output is not UTF-8."""
    if "│" in box:
        return box
    _title, _rule, *lines = box.strip("\n").splitlines()
    return "\n".join("│ ─ │" if set(line.strip()) == {"-"} else f"│{line[1:-1]}│" for line in lines)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if isinstance(value, Views) and hint is Views:
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise UserError(f"'{where}' must be one of {', '.join(map(str, arguments))}, got {in_one_line(repr(value))}")
    if origin in (tuple, list):
        return _convert_sequence(origin, arguments, value, where)
    if origin is dict and isinstance(value, dict):
        return {_convert(arguments[0], k, where): _convert(arguments[1], v, _join(where, str(k))) for k, v in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    problems = []
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _convert(choice, value, where)
        except UserError as error:
            problems.append(error)
    raise problems[0]


def _convert_sequence(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"'{where}' must be a list, got {in_one_line(repr(value))}")
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        if len(value) != len(arguments):
            raise UserError(f"'{where}' must have {len(arguments)} entries, got {len(value)}")
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    return origin(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-4 (no dot) as a string
        try:
            return float(value)
        except (OverflowError, TypeError, ValueError):
            pass
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif type(value) is hint:
        return value
    name = getattr(hint, "__name__", str(hint))
    raise UserError(f"'{where}' must be of type {name}, got {in_one_line(repr(value))}")
