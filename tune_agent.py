"""Search hyperparameters: python tune_agent.py voxel_treechop --encoder RUN --agent ppo --space ppo --trials 20 --run OUT"""

import sys

from foundation.command import run
from search.command import tune

if __name__ == "__main__":
    run(lambda: tune(sys.argv[1:]))
