"""Plain convolutions: the beta-VAE, and encoders whose readings say where."""
