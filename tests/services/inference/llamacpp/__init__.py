"""Tests of `services.inference`."""
