"""The detector API of the FMS Guardrails Orchestrator over HTTP: each type of shield is a detector by its name."""

from .app import detector_app
from .listener import Listening, serving

__all__ = ["Listening", "detector_app", "serving"]
