"""Modules: something to talk to, wherever it runs; see `Module`."""

from shieldmesh.module.answer import Answer
from shieldmesh.module.module import Module
from shieldmesh.module.target import Ask, Target

__all__ = ["Answer", "Ask", "Module", "Target"]
