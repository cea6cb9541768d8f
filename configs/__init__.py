"""The files for --config, and named_methods.py, which two of them share."""
