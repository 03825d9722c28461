"""Search hyperparameters: python tune_agent.py voxel_treechop --encoder RUN --agent ppo --space ppo --trials 20 --run OUT"""

import sys

from foundation.command import run


def main() -> int:
    from search.command import tune

    return tune(sys.argv[1:])


if __name__ == "__main__":
    run(main)
