"""The models that are open: each with its backend and its places."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from shieldmesh.errors import InvalidArgumentError, NotFoundError
from shieldmesh.metrics import ModelLoad

from .admission import Admission
from .backend import Backend
from .configuration import Configuration, ConfigurationError, LlamaModel, Model, OpenAIModel, RemoteModel, ReplayModel
from .llamacpp.backend import LlamaBackend
from .openai.backend import OpenAIBackend
from .remote.backend import RemoteBackend
from .replay import ReplayBackend


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One open model."""

    name: str
    kind: str
    """The backend's name, as the configuration gives it."""
    backend: Backend
    admission: Admission


class Registry:
    """Finds models by name."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self.models = MappingProxyType(dict(sorted(models.items())))

    def loads(self) -> list[ModelLoad]:
        """How busy each model is now; safe to ask from any thread."""
        return [
            ModelLoad(model.name, model.admission.waiting, model.admission.running) for model in self.models.values()
        ]

    def find(self, name: str) -> ServedModel:
        """The model of this name.

        Raises:
            InvalidArgumentError: the name is empty.
            NotFoundError: there is no such model; the message lists those there are.
        """
        if not name:
            raise InvalidArgumentError("model: the name of a model is needed", field="model")
        model = self.models.get(name)
        if model is None:
            known = ", ".join(self.models)
            raise NotFoundError(
                f"this server has no such model: it has {known}", reason="MODEL_NOT_FOUND", field="model"
            )
        return model


@asynccontextmanager
async def open_models(configuration: Configuration) -> AsyncGenerator[Registry, None]:
    """All models of the configuration, open inside the block.

    Raises:
        ConfigurationError: a model's file is missing or cannot be loaded.
    """
    async with AsyncExitStack() as stack:
        models: dict[str, ServedModel] = {}
        for model in configuration.models:
            backend = await _open(model)
            stack.push_async_callback(backend.close)
            places = Admission(
                model.name, max_running=model.max_running, max_waiting=model.max_waiting, weights=model.weights
            )
            models[model.name] = ServedModel(model.name, model.backend, backend, places)
        yield Registry(models)


async def _open(model: Model) -> Backend:
    match model:
        case LlamaModel():
            try:
                return await LlamaBackend.open(model.options, model.max_running)
            except (FileNotFoundError, ImportError, RuntimeError) as error:
                raise ConfigurationError(f"the model {model.name} cannot be opened: {error}") from error
        case OpenAIModel():
            return OpenAIBackend(model.name, model.options)
        case RemoteModel():
            try:
                return RemoteBackend(model.name, model.options)
            except OSError as error:
                raise ConfigurationError(
                    f"the model {model.name} cannot be opened: {model.options.ca}: {error.strerror}"
                ) from None
        case ReplayModel():
            return ReplayBackend(model.options)
        case _:
            assert_never(model)
