"""Rejection sampling: which samples of a policy become training data."""
