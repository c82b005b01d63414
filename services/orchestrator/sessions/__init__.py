"""Conversations whose history the mesh keeps."""
