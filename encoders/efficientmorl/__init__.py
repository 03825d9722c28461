"""EfficientMORL, and Slot Attention."""
