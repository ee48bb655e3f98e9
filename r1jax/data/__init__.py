"""Records from files and tasks; prompts, rows and padding."""
