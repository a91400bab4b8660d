"""Measurements, not tests: each module prints a table; ``make bench`` runs the quick ones."""
