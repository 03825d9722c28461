"""The command `compare_encoders.py`, behind its door."""

import shlex
from collections.abc import Sequence

from comparison.config import JoinConfig, read_grid
from foundation.presets import parse

COMPARE = """Compare encoders and controls by episode return, over tasks, algorithms and seeds: name environment presets first, and agent
presets with --agent, or with --pixel-agent for the rows on pixels alone. Running the command again, or one with more, runs only what is
missing. --env.NAME VALUE is an option of the environment, such as --env.palette autumn.

One report of several comparisons: python compare_encoders.py join FOLDER FOLDER --run OUT"""
JOIN = """Write one report of several finished comparisons: rows of one task together, and all tasks with normalised scores."""


def compare(argv: Sequence[str]) -> int:
    """Run what is missing of a comparison and write its report; return the exit status: 1 where a run failed."""
    if argv and argv[0] == "join":
        return join(argv[1:])
    parts = read_grid(COMPARE, argv)
    # brings torch, Ray and matplotlib: not before the options are known to be right
    from comparison.running import run_comparison

    return run_comparison(parts, shlex.join(["python", "compare_encoders.py", *argv]))


def join(argv: Sequence[str]) -> int:
    """Write one report of several comparisons; return the exit status: 1 where a run of theirs failed."""
    config = parse(JoinConfig, JOIN, argv, program="compare_encoders.py join")
    config.check()
    from comparison.running import join_comparisons

    return join_comparisons(config, shlex.join(["python", "compare_encoders.py", "join", *argv]))
