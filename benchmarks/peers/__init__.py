"""The systems that the mesh is compared with, each in a virtual environment of its own."""
