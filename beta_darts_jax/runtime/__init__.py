"""How anything runs: devices, processes, run folders, checkpoints, logs and the session that joins them.

This folder searches and trains nothing. It knows only that a search has members, and what the files
of a run hold.
"""
