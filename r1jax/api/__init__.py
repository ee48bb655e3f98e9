"""The Python API, for notebooks and scripts; its names are those of r1jax."""
