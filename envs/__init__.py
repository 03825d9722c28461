"""Environments with pictures: the embedded voxel world, and any registered gymnasium environment."""

from envs.player import Player, scripted_player
from envs.registry import make_env

__all__ = ["Player", "make_env", "scripted_player"]
