"""Types, geometry, labels, errors and files that every stage shares."""
