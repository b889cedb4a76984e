"""Settings with defaults, and checking of configurations."""
