"""Programs that design sequences for backbones and predict structures of sequences, one file each."""
