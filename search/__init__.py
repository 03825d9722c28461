"""Hyperparameter search: agent runs, and the encoders they look through, with settings drawn from a space, on Ray Tune."""
