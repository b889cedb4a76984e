"""Similarity of structures and of sequences."""
