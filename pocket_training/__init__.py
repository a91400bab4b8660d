"""How the pocket model is made: `python -m pocket_training` draws, trains, exports and reports."""
