"""Compare encoders by episode return: python compare_encoders.py voxel_treechop --encoders RUN RUN3 --run RUN4"""

import sys

from foundation.command import run


def main() -> int:
    from comparison.command import compare

    return compare(sys.argv[1:])


if __name__ == "__main__":
    run(main)
