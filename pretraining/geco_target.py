"""What a run that learns without GECO tells about the target to give it: the published heuristic.

The negative log-likelihood falls, and stays for long once the background is learned. A target 1,000 to 2,000 nats below that plateau makes
the model learn the objects.
"""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from encoders.training.run_record import recorded
from foundation.errors import UserError

BELOW, LEAST_BELOW, MOST_BELOW = 1500, 1000, 2000
"""Nats from the plateau down to the target."""
_LEAST_RECORDS = 16


def suggestion(run: Path, architecture: str, model: Any) -> str:
    """Say which target the likelihood in a run's record suggests, as the option that sets it.

    Raises `UserError` for a model without GECO, a folder without a run, and a run that has recorded too little.
    """
    if not hasattr(model, "geco_target"):
        raise UserError(f"--geco suggest: a '{architecture}' has no GECO; leave it out")
    settings = recorded(run, "model")
    if settings is None:
        raise UserError(f"--geco suggest: {run} holds no run; train there without GECO first, for about 10,000 steps")
    steps, values = _negative_log_likelihoods(run)
    if len(values) < _LEAST_RECORDS:
        raise UserError(f"--geco suggest: {run} has {len(values)} records of its likelihood, {_LEAST_RECORDS} are needed; train on")
    quarter = len(values) // 4
    before, plateau = (statistics.median(part) for part in (values[-2 * quarter : -quarter], values[-quarter:]))
    dimensions, least = math.prod(settings["frame_shape"]), math.log(settings["sigma"])
    target = (plateau - BELOW) / dimensions
    lines = [
        f"{run}: negative log-likelihood {plateau:,.0f} nats a frame, the median of steps {steps[-quarter]:,} to {steps[-1]:,}",
        f"--model.geco True --model.geco-target {target:.3f}: {BELOW:,} nats lower, over {dimensions:,} pixels and channels "
        f"({(plateau - LEAST_BELOW) / dimensions:.3f} to {(plateau - MOST_BELOW) / dimensions:.3f} for {LEAST_BELOW:,} to {MOST_BELOW:,})",
        _meaning(target, least, settings["sigma"]),
    ]
    if before - plateau > LEAST_BELOW:
        lines.append(f"this is no plateau yet: it was {before:,.0f} nats in as many steps before them; train on, and ask again")
    if settings.get("geco"):
        lines.append("this run has learned with GECO, which changes what its likelihood tells; the heuristic is for one without")
    return "\n".join(lines)


def _meaning(target: float, least: float, sigma: float) -> str:
    if target <= least:
        return (
            f"with sigma {sigma:g} no picture does better than {least:.3f}: this target is never met, and the likelihood's weight rises "
            "for as long as training goes, slowly"
        )
    return f"met at a PSNR of {-10 * math.log10(2 * sigma**2 * (target - least)):.1f} dB"


def _negative_log_likelihoods(run: Path) -> tuple[list[int], list[float]]:
    # here, for the record's file is TensorBoard's neighbour, whose import is slow
    from encoders.training.metrics import METRICS_FILE

    path = run / METRICS_FILE
    steps, values = [], []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            # the last line of a run that was killed
            continue
        if isinstance(value := record.get("train/nll"), float):
            steps.append(record["step"])
            values.append(value)
    return steps, values
