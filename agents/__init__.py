"""Training one agent: on latents or pixels, in a Ray worker, resumable."""
