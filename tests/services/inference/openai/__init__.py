"""Tests of `services.inference.openai`."""
