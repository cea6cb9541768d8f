"""The algorithm: pure functions of (state, batch).

This folder knows no network class (`networks`), no config and no file.
"""
