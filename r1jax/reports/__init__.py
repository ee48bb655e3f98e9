"""Pages about runs, without external files: curves, tables, samples."""
