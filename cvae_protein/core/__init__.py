"""Types, geometry, labels, errors and file handling shared by all stages."""
