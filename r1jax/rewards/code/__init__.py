"""Verification of programs by unit tests."""
