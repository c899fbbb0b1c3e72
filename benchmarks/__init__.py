"""Measurements, not tests: each prints what it measured and against what, in one run on one machine."""
