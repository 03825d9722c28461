"""Train an agent on an encoder's latents, or on a control: python train_agent.py voxel_treechop --encoder RUN --run RUN2"""

import sys

from foundation.command import run


def main() -> int:
    from agents.command import train

    return train(sys.argv[1:])


if __name__ == "__main__":
    run(main)
