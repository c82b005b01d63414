"""Three flows: `shieldmesh up --flows examples.flows --profiles examples/profiles`."""

from .choose import choose
from .refine import refine
from .route import route

__all__ = ["choose", "refine", "route"]
