"""Options of an environment on every command line: --env.server voxel --env.python PATH; those of evaluation alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import UserError, in_one_line

PREFIX, EVALUATION_PREFIX = "--env.", "--evaluation.environment."
RUNNING_OPTIONS = ("python", "headless", "timeout", "start_timeout", "retries", "spare")
"""Options that say where and how a game runs, not what is seen in it: what is begun with some goes on with others.

They come from the command line or from a preset of the user's own, and no file that is shared holds them: one names a program to start.
"""

Scalar = int | float | str | bool


def take_env_options(argv: Sequence[str], prefix: str = PREFIX) -> tuple[list[str], dict[str, Scalar]]:
    """Part `--env.NAME VALUE` and `--env.NAME=VALUE`, or those with another prefix, from the other words of a command line.

    Values are read as YAML reads them: yes and no, numbers, else text. Raises `UserError` for a name without a value.
    """
    rest, options, words = [], {}, list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(prefix):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix(prefix).partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{word} needs a value")
            value = words.pop(0)
        options[name.replace("-", "_")] = _scalar(value)
    return rest, options


def running_options(options: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the options that the command line has to give again to whoever uses what they were given for."""
    return {name: value for name, value in options.items() if name in RUNNING_OPTIONS or _is_path(value)}


def shareable(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return an environment's settings without the options that a file which is shared must not hold."""
    options = {name: value for name, value in environment["options"].items() if name not in RUNNING_OPTIONS}
    return {**environment, "options": options}


def refuse_shared_options(file: Path, options: Mapping[str, Scalar], given: Mapping[str, Scalar]) -> None:
    """Raise `UserError` where a file that may be somebody else's says how a game runs, or names a path, and the command line does not.

    `options` are those of the environment in `file`; `given` those of the command line, which take their place.
    """
    for name, value in running_options(options).items():
        if name not in given:
            option = in_one_line(name)
            raise UserError(
                f"{file}: its environment has the option {option} = {in_one_line(value)}, and a file that may be shared does not say "
                f"which programs and paths are used; where you trust it, add {PREFIX}{option.replace('_', '-')} VALUE"
            )


def refuse_running_options(key: str, options: Mapping[str, Scalar]) -> None:
    """Raise `UserError` where the options under a key say how a game runs, or name a path: those hold for all of a command."""
    for name in running_options(options):
        option = in_one_line(name)
        given = f"{PREFIX}{option.replace('_', '-')} VALUE"
        raise UserError(f"'{key}' holds the option {option}, which is the same in training and evaluation: give it as {given}")


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, Path)) and (any(sign in str(value) for sign in "/\\") or str(value).startswith("~"))


def _scalar(text: str) -> Scalar:
    try:
        value = yaml.safe_load(text)
    # numbers of 5000 digits and impossible dates are no YAMLError
    except (RecursionError, ValueError, yaml.YAMLError):
        return text
    return value if isinstance(value, (bool, int, float)) else text
