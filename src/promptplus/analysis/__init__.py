"""Which layer decides what."""
