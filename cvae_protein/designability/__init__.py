"""Programs that design sequences for backbones or predict the structures of sequences, one file each."""
