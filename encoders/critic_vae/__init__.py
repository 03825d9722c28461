"""A VAE whose decoder is told what the frame is worth."""
