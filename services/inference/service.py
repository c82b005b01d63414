"""What the process serves: the models of the configuration behind one servicer."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import grpc

from shieldmesh.metrics import instruments
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc

from .configuration import Configuration
from .registry import open_models
from .servicer import InferenceServicer


@asynccontextmanager
async def open_service(
    server: grpc.aio.Server, configuration: Configuration, *, max_characters: int
) -> AsyncGenerator[Sequence[str], None]:
    """Opens the models, adds the service to the server, and yields its full name; frees the engines afterwards."""
    async with open_models(configuration) as models:
        servicer = InferenceServicer(models, max_characters=max_characters)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        instruments().watch_models(models.loads)
        yield [inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name]
