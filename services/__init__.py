"""The services of the mesh: each is a process of its own, and none imports another."""
