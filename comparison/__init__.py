"""Comparing encoders by episode return: the grid of runs, what is missing of it, and the report."""
