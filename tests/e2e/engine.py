"""The engine's own counters, read from a running inference service."""

import asyncio
from collections.abc import Callable

from shieldmesh import calls, channels
from shieldmesh.v1 import inference_pb2
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub
from tests.e2e.mesh import Mesh

TIMEOUT = 60.0
"""Seconds after which a call or a wait of a test fails."""


async def model(mesh: Mesh, name: str) -> inference_pb2.Model:
    """What the inference service says of a model right now."""
    stub = InferenceServiceStub(channels.get(mesh.targets["inference"]))
    answer = await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
    return next(each for each in answer.models if each.name == name)


async def until(mesh: Mesh, name: str, condition: Callable[[inference_pb2.Model], bool]) -> inference_pb2.Model:
    """The state of the model as soon as the condition holds; fails after the time limit."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            state = await model(mesh, name)
            if condition(state):
                return state
            await asyncio.sleep(0.005)
