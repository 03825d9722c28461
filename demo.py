"""The main job, end to end: frames -> encoder -> agents on latents -> encoders compared by episode return."""

import sys

from foundation.command import run


def main() -> int:
    from comparison.demo import demonstrate

    return demonstrate(sys.argv[1:])


if __name__ == "__main__":
    run(main)
