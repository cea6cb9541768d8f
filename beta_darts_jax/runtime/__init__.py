"""How anything runs: devices, processes, run folders, checkpoints, logs and the session that joins them.

This folder knows nothing of architecture search.
"""
