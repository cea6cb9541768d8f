"""The experiments of the paper and of this project: Python files that describe them, and what runs them."""
