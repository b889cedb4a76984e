"""Conditional VAEs of protein backbones by fold class: from PDB entries to scored, diagnosed samples."""

__version__ = "0.1.0"
