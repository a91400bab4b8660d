"""Measure what the paper claims: plans, the studies that they run, the claims, and the report."""
