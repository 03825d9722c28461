"""Algorithms: their settings, what they need of an environment, replay buffers."""
