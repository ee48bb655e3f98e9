"""Rows of records from files, folders and the hub."""
