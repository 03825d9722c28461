"""Environments in Ray actors, behind Stable-Baselines3's `VecEnv`."""

from agents.remote.latents import ArrivingLatent
from agents.remote.vec_env import RayVecEnv

__all__ = ["ArrivingLatent", "RayVecEnv"]
