"""Networks: what runs on torch, NumPy, h5py and safetensors alone."""
