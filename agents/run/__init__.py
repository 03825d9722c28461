"""One run: what it is, what its agent sees and does, its training, its checkpoints."""
