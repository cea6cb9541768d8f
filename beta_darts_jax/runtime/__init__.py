"""How anything runs: devices, processes, run folders, checkpoints, logs and the session that joins them.

This folder searches and trains nothing. It knows of a search only the columns of its metrics.
"""
