"""How anything runs: devices, processes, run folders, checkpoints, logs and the session that joins them.

This folder searches and trains nothing. It knows of a search that it has members, and what its files hold.
"""
