"""How the pocket model is made: `python -m pocket` draws, trains, assembles and reports."""
