"""Environments in Ray actors, behind Stable-Baselines3's `VecEnv`."""
