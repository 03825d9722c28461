"""Wiring of the ground rooms: encoders trained on a store, controls that mirror one.

What needs frames and encoders together stands here, a floor above both: neither knows the other.
"""
