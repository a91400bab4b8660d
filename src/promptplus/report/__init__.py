"""Figures, picture grids and HTML pages. Draws what other modules return; computes nothing."""
