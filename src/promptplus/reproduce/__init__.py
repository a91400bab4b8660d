"""Studies: each measures one part of the paper's evidence and tells it with figures, tables and numbers."""
