"""Talks to a model: in a terminal, on the command line, over HTTP."""
