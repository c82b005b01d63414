"""How a running mesh tells about itself: the spans of its last turns, and what reaches each hop."""
