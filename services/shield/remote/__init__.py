"""Shields that are other services: any ShieldService by gRPC, and detectors over HTTP."""
