"""Networks: code that needs only torch, NumPy, h5py and safetensors."""
