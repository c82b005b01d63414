"""Tests of `services.inference.pool`."""
