"""Wiring of the ground rooms: frames collected from players, encoders trained on a store."""
