"""A search, from a checked config to the cells that it found.

The way goes through `setup.py` (config → SearchSetup), `programs.py` (what is compiled), `run.py` (the run from top to
bottom) and `result.py`. This folder must not know how a page is made (`report`).
"""
