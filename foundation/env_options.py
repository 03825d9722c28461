"""Options of an environment on every command line: --env.server voxel --env.python PATH."""

from collections.abc import Sequence

import yaml

from foundation.errors import UserError

PREFIX = "--env."
RUNNING_OPTIONS = ("python", "headless", "timeout", "start_timeout", "retries", "spare")
"""Options that say where and how a game runs, not what is seen in it: what is begun with some goes on with others."""

Scalar = int | float | str | bool


def take_env_options(argv: Sequence[str]) -> tuple[list[str], dict[str, Scalar]]:
    """Part `--env.NAME VALUE` and `--env.NAME=VALUE` from the other words of a command line.

    Values are read as YAML reads them: yes and no, numbers, else text. Raises `UserError` for a name without a value.
    """
    rest, options, words = [], {}, list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(PREFIX):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix(PREFIX).partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{word} needs a value")
            value = words.pop(0)
        options[name.replace("-", "_")] = _scalar(value)
    return rest, options


def _scalar(text: str) -> Scalar:
    try:
        value = yaml.safe_load(text)
    # numbers of 5000 digits and impossible dates are no YAMLError
    except (RecursionError, ValueError, yaml.YAMLError):
        return text
    return value if isinstance(value, (bool, int, float)) else text
