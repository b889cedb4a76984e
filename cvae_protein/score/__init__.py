"""Sets of structures evaluated against held-out ones; one function per metric."""
