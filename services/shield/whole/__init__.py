"""Shields of the kind whole: each looks at a text when it is complete."""
