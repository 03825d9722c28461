"""A frame store -> an encoder: python train_encoder.py PRESET --store STORE --run RUN --steps N [OPTIONS]"""

import sys

from foundation.command import run


def main() -> int:
    from pretraining.encoder_command import train

    return train(sys.argv[1:])


if __name__ == "__main__":
    run(main)
