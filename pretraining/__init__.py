"""Wiring of the ground rooms: frames collected from players, encoders trained on a store, controls that mirror one.

What needs frames and environments together, or frames and encoders, stands here, a floor above all three: none of them knows another.
"""
