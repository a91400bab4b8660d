"""Figures, picture grids, tables and HTML pages from given values. Nothing is measured here."""
