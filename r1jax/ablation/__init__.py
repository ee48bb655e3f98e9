"""Runs of one config with other values and seeds, and their comparison."""
