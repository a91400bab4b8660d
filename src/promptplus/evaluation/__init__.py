"""Evaluation: judges, metrics, and experiment grids that train and score methods."""
