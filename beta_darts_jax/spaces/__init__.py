"""What can be searched and what was found: search spaces, genotypes, the NAS-Bench-201 table.

This folder knows no network, no optimizer and no config.
"""
