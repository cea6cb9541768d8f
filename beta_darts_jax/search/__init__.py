"""A search from a config to genotypes.

`run.py` is the run; `programs.py` has what it compiles.
"""
