"""The experiments of this project: one file per study, and the program that runs them. Not part of the package."""
