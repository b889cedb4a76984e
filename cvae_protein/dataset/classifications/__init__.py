"""Classifications of protein domains: one module for each family of table formats."""
