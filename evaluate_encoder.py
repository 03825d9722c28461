"""Judge an encoder on recordings it has not seen: python evaluate_encoder.py RUN --store STORE"""

import sys

from evaluation.command import evaluate
from foundation.command import run

if __name__ == "__main__":
    run(lambda: evaluate(sys.argv[1:]))
