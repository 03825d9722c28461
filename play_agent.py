"""Watch a trained agent: python play_agent.py RUN --episodes 1 --video episode.mp4"""

import sys

from agents.playing import play
from foundation.command import run

if __name__ == "__main__":
    run(lambda: play(sys.argv[1:]))
