"""How far a run is."""

from dataclasses import dataclass


@dataclass
class Position:
    """How far a run is: counters beside the algorithm's own."""

    steps: int = 0
    episodes: int = 0
    logged_steps: int = 0
    """Steps that `metrics.jsonl` covers."""
    metrics_bytes: int = 0
    evaluated_steps: int = 0
    finished_steps: int = 0
    """Steps at which the final evaluation was last made."""
    seconds: float = 0.0
    """Wall time of training, evaluation apart."""
    evaluation_seconds: float = 0.0
    deaths: int = 0
    """Episodes that ended because their environment died, those of evaluations included."""
    failed_resets: int = 0
