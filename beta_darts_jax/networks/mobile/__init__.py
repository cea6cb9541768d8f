"""The networks of spaces without cells: a chain of stages of layers, as MobileNetV2 and ProxylessNAS have it.

This folder has no network with cells.
"""
