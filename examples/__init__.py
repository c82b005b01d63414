"""Examples that run: see docs/flows.md."""
