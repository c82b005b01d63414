"""Interceptors on both sides of real calls."""
