"""The training of a genotype's network, from a checked config to test accuracies.

The way goes through `setup.py` (config → RetrainSetup), `programs.py` (what is compiled), `run.py` (the run from top to
bottom) and `result.py`. `comparison.py` trains cells after a search. This folder must not know how a search works.
"""
