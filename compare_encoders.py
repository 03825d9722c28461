"""Compare encoders by episode return: python compare_encoders.py voxel_treechop --encoders RUN RUN3 --run RUN4"""

import sys

from comparison.command import compare
from foundation.command import run

if __name__ == "__main__":
    run(lambda: compare(sys.argv[1:]))
