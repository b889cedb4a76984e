"""Reading and writing of structure files."""
