"""The orchestrator, between services that say what they are told."""
