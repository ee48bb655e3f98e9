"""Scores, intervals and tables."""
