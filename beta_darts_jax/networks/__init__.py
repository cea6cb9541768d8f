"""The networks as Flax Linen modules: candidate operations, supernet, discrete networks.

This folder knows no algorithm (`method`), no data set and no config.
"""
