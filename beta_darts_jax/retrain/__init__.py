"""The training of a genotype's network from a config to test accuracies.

`run.py` is the run; `step.py` is one training step.
"""
