"""NVAE, a deep hierarchical VAE."""
