"""What turns have in common: the services that they call, and how far they may run ahead."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shieldmesh.admission import Places
from shieldmesh.window import TOKENS

from .flows.catalogue import NO_FLOWS, Catalogue
from .shadow import Shadows

if TYPE_CHECKING:
    from shieldmesh.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from shieldmesh.v1.shield_pb2_grpc import ShieldServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Services:
    """The services a turn calls, and how far it may run ahead of its reader."""

    shields: "ShieldServiceAsyncStub"
    models: "InferenceServiceAsyncStub"
    window: int
    """Bytes of text that may wait for the shields, and for the client, before the model's stream is read no further."""
    ahead: int = TOKENS
    """Tokens that may wait for the client, and on the way from the model, then."""
    shadows: Shadows = field(default_factory=Shadows)
    """The candidates that run beside turns."""
    places: Places = field(default_factory=lambda: Places("orchestrator"))
    """How many turns run at the same time."""
    flows: Catalogue = NO_FLOWS
    """The flows that profiles may name."""
