"""Compiles a run's programs for TPUs and measures what they need and move."""
