"""Encoders -> a service: python serve_encoder.py RUN RUN2 --port 8000; frames in, latents out"""

import sys

from foundation.command import run


def main() -> int:
    from service.command import serve

    return serve(sys.argv[1:])


if __name__ == "__main__":
    run(main)
