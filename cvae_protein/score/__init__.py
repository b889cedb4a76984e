"""What a set of structures is worth beside held-out ones; one function a metric."""
