"""From classification tables and structure files to one HDF5 store and its split."""
