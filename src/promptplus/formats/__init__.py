"""Files of concepts: ours, those of other tools, and the hub's; what each holds, in plain values."""
