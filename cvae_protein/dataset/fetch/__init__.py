"""Finds or downloads the file of every entry."""
