"""What operators are told of a model: its load, and how its endpoints are."""

from collections.abc import Iterator
from typing import Any, cast

from shieldmesh.v1 import inference_pb2

from .pool.backend import PooledBackend
from .registry import ServedModel


def described(model: ServedModel) -> inference_pb2.Model:
    """The model as it is at this moment."""
    return inference_pb2.Model(
        name=model.name,
        backend=model.kind,
        context_window=model.backend.context_window,
        running=model.admission.running,
        waiting=model.admission.waiting,
        max_running=model.admission.max_running,
        generated_tokens=model.backend.generated_tokens,
        endpoints=_endpoints(model),
    )


def _endpoints(model: ServedModel) -> Iterator[inference_pb2.Endpoint]:
    if not isinstance(model.backend, PooledBackend):
        return
    # How a request is put to an endpoint is nothing to know here.
    pool = cast("PooledBackend[Any]", model.backend)
    for member in pool.members.all:
        alone = member.breaker.is_open
        yield inference_pb2.Endpoint(
            address=member.endpoint.name,
            state=inference_pb2.ENDPOINT_STATE_LEFT_ALONE if alone else inference_pb2.ENDPOINT_STATE_READY,
            running=member.running,
            generated_tokens=member.endpoint.generated_tokens,
        )
