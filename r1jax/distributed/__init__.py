"""Placement of arrays, programs over many devices, and several processes."""
