"""From classification tables and structure files to an HDF5 store and its splits."""
