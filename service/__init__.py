"""The perception service: frames in, latents out, for many clients, by the Open Inference Protocol v2."""
