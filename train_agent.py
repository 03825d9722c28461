"""Train an agent on an encoder's latents, or on a control: python train_agent.py voxel_treechop --encoder RUN --run RUN2"""

import sys

from agents.command import train
from foundation.command import run

if __name__ == "__main__":
    run(lambda: train(sys.argv[1:]))
