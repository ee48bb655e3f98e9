"""Rejection sampling: which samples are kept for SFT."""
