"""The Python interface: models, structures and scores, a thin layer over the stages that the command line calls."""
