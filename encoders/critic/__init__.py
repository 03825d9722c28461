"""Critic-guided segmentation: what a frame is worth, and where the thing is that pays."""
