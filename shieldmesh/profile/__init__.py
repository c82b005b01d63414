"""Profiles: named, versioned policies, read from YAML."""

from .loader import Fingerprint, fingerprint, load, load_file
from .policy import Policy
from .profiles import Profile, Profiles
from .reading import parse
from .source import Problem, ProfileError
from .wire import latency_budget, sampling, shield_spec, struct

__all__ = [
    "Fingerprint",
    "Policy",
    "Problem",
    "Profile",
    "ProfileError",
    "Profiles",
    "fingerprint",
    "latency_budget",
    "load",
    "load_file",
    "parse",
    "sampling",
    "shield_spec",
    "struct",
]
