"""Profiles: named, versioned policies, read from YAML."""

from .loader import Profile, load, load_file, parse
from .policy import Policy
from .source import Problem, ProfileError
from .wire import sampling, shield_spec, struct

__all__ = [
    "Policy",
    "Problem",
    "Profile",
    "ProfileError",
    "load",
    "load_file",
    "parse",
    "sampling",
    "shield_spec",
    "struct",
]
