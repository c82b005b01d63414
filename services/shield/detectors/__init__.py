"""What the built-in match shields look for: one file per type of shield."""
