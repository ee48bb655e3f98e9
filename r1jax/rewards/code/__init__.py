"""Verification of programs by their tests."""
