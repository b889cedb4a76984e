"""The variants of the conditional VAE."""
