"""Editing of a real picture by layers: it is inverted into noise, then denoised with other texts in some layers."""
