"""Measurements, not tests: each module prints a table; ``make bench`` runs the quick ones."""

import os

if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
    os.environ["GOMP_SPINCOUNT"] = "3000"  # before torch is imported; see promptplus.cli.main
