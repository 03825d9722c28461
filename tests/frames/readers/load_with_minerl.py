"""Load trajectories with minerl's own loader and save what it gives; run by an interpreter that has minerl 0.4.4.

python load_with_minerl.py DATA_ROOT OUT_FOLDER ENVIRONMENT/NAME ...
"""

import sys
from pathlib import Path

import numpy as np


def flat(kind, tree):
    """Join the keys of nested dictionaries with dots, as a frame store does."""
    if not isinstance(tree, dict):
        return {kind: tree}
    return {name: values for key, below in tree.items() for name, values in flat(f"{kind}.{key}", below).items()}


def load(pipeline, name):
    """Return the frames of all states (T+1), and each array of the T steps; observations of all states."""
    steps = list(pipeline.load_data(name))
    observations = [flat("observation", step[0]) for step in steps] + [flat("observation", steps[-1][3])]
    actions = [flat("action", step[1]) for step in steps]
    columns = {key: np.array([row[key] for row in rows]) for rows in (observations, actions) for key in rows[0]}
    return {**columns, "reward": np.array([step[2] for step in steps]), "done": np.array([step[4] for step in steps])}


def main(root, out, *trajectories):
    import minerl.data

    for trajectory in trajectories:
        environment, name = trajectory.split("/")
        pipeline = minerl.data.make(environment, root, num_workers=1)
        np.savez(Path(out) / f"{environment}.npz", **load(pipeline, name))
        pipeline.processing_pool.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
