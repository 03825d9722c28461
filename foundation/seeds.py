"""Which worlds are learned from and which are judged in: their seeds have no number in common."""

FIRST_EVALUATION_SEED = 2**30
"""Worlds that frames are recorded in and agents are trained in have seeds below, evaluation worlds have this and above, up to 2^31."""
