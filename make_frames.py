"""Recordings or rollouts -> a frame store: python make_frames.py build --source FOLDER --store STORE; inspect, verify, export"""

import sys

from foundation.command import run


def main() -> int:
    from collecting.command import make

    return make(sys.argv[1:])


if __name__ == "__main__":
    run(main)
