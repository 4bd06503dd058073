"""Judging: metrics over whole sets, calibration, intervals over groups, comparisons, the depth to use. Imports no jax."""
