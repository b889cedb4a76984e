"""How alike structures and sequences are."""
