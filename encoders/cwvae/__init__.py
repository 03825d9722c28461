"""The Clockwork VAE."""
