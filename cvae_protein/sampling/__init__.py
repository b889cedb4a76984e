"""Samples and reconstructions of a trained model."""
