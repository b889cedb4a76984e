"""The package in Python: models, structures and scores, thin over the stages that the command line calls."""
