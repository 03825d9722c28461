"""An encoder + a frame store -> numbers, pictures, a verdict: python evaluate_encoder.py RUN --store STORE [--judges NAME ...]"""

import sys

from foundation.command import run


def main() -> int | None:
    from evaluation.command import evaluate

    return evaluate(sys.argv[1:])


if __name__ == "__main__":
    run(main)
