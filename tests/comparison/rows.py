"""Rows of scores that nobody measured, evenly spread, and tasks of them: what tests of reports stand on."""

import numpy as np

from comparison.encoder_facts import EncoderFacts, Speed
from comparison.results import Point, RowResults, Run, TaskResults

SEEDS = 6


def row(label: str, middle: float, kind: str = "encoder", seeds: int = SEEDS, spread: float = 1.0, **changes) -> RowResults:
    """Return a row whose scores lie evenly around `middle`."""
    scores = middle + spread * np.linspace(-0.5, 0.5, seeds)
    player = {"random": "random", "scripted": "scripted"}.get(label)
    curves = [[] if player else [Point(50, score / 2, 1.5), Point(100, score, 3.0)] for score in scores.tolist()]
    runs = [Run(seed, 100, float(score), [float(score)], curves[seed], 3.0, 1) for seed, score in enumerate(scores)]
    facts = EncoderFacts(label, [8], 1234, speed=Speed(0.5, 8, "cpu", 1, "a machine")) if kind == "encoder" else None
    return RowResults(label, label, kind, runs, player=player, algorithm=None if player else "PPO", encoder=facts, **changes)


def task(*rows: RowResults, name: str = "VoxelTreechop-v0", source: str = "one", **settings) -> TaskResults:
    environment = {"name": name, "frame_skip": 4}
    about = {"environment": environment, "evaluation": {"episodes": 2, "final_episodes": 3}, "steps": 100, "seeds": SEEDS, **settings}
    return TaskResults(name, about, {}, [f"python compare_encoders.py {source}"], {"python": "3"}, list(rows), source)


PLAYERS = (row("random", 1, "player", spread=0), row("scripted", 11, "player", spread=0))
