"""Shields that have a model look at a text window by window."""
