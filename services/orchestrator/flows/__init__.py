"""Flows: Python in the place of the model."""
