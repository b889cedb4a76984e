"""Structure files, read and written."""
