"""The command `play_agent.py`, behind its door."""

from collections.abc import Sequence

from agents.play_config import PlayConfig
from foundation.env_options import take_env_options
from foundation.errors import UserError
from foundation.presets import parse

PLAY = """Play a trained agent and print its returns: python play_agent.py RUN --episodes 1 --video episode.mp4

RUN is the folder of a train_agent.py run, or an environment preset with --player random or scripted.
Other options for its environment: --env.NAME VALUE, such as --env.python PATH (docs/minerl.md)."""


def play(argv: Sequence[str]) -> int:
    """Play episodes, print their returns and write the video; return the exit status."""
    if not argv or not argv[0] or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            parse(PlayConfig, PLAY, ["--help"], program="play_agent.py RUN")
        raise UserError("name the folder of a trained agent first: python play_agent.py RUN [--episodes N] [--video FILE]")
    arguments, options = take_env_options(argv[1:])
    config = parse(PlayConfig, PLAY, arguments, program=f"play_agent.py {argv[0]}")
    if config.video is not None and config.video.suffix != ".mp4":
        raise UserError(f"{config.video}: the video is an mp4; give it a name that ends in .mp4")
    # brings torch and Stable-Baselines3: not before the options are known to be right
    from agents.films import show

    return show(argv[0], config, options)
