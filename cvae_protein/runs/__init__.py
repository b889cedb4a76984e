"""Records of runs, and grids and searches over many."""
