"""Records and texts in, one number a text out."""
