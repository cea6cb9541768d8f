"""How anything runs: devices, processes, run folders, checkpoints, logs.

This folder knows nothing of architecture search.
"""
