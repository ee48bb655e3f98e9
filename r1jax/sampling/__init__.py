"""Prompts in, sampled rows out."""
