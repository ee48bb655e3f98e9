"""Verification of mathematical answers."""
