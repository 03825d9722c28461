"""Judging an encoder on recordings that it has not seen."""
