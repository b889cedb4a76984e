"""Settings with their defaults, and the checked configuration."""
