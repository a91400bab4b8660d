"""Pictures → Concept: textual inversion with one row per layer (XTI) or one row for all (TI)."""
