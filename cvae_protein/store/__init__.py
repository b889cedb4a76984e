"""The HDF5 store of backbones."""
