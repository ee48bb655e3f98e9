"""Processes that run untrusted programs and can be killed."""
