"""Watch a trained agent: python play_agent.py RUN --episodes 1 --video episode.mp4"""

import sys

from foundation.command import run


def main() -> int:
    from agents.playing import play

    return play(sys.argv[1:])


if __name__ == "__main__":
    run(main)
