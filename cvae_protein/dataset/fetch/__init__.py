"""The file of every entry, from wherever it is."""
