"""Finds patterns in a text that is still being written, and says up to where nothing can change any more."""
