"""How the pocket model is made: `python -m pocket_training` draws, trains, assembles and reports."""
