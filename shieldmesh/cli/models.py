"""`shieldmesh models`."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shieldmesh import calls
from shieldmesh.cli import service, terminal
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc

Stub: TypeAlias = "inference_pb2_grpc.InferenceServiceAsyncStub"  # exists for type checkers alone

_COLUMNS: Final = ("model", "backend", "running", "waiting", "tokens", "context", "endpoints")
_STATES: Final = {
    inference_pb2.ENDPOINT_STATE_READY: ("ready", "green"),
    inference_pb2.ENDPOINT_STATE_LEFT_ALONE: ("left alone", "bold red"),
}


def models(
    *,
    url: Annotated[
        str,
        typer.Option(
            help="The inference service: grpc://host:port or unix:/path.",
            show_default="the one of the mesh that runs on this machine",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the models as a JSON array.")] = False,
) -> None:
    """Show the models of an inference service: what runs them, how busy they are, and how their endpoints are.

    An endpoint that failed again and again is left alone for a while, and then tried again. Of several replicas of the
    service one answers, for itself: name a replica to ask that one.

    For example:

    - `shieldmesh models`

    - `shieldmesh models --url grpc://inference.internal:50053 --json`
    """
    found = service.ask("inference", inference_pb2_grpc.InferenceServiceStub, url, _list).models
    if as_json:
        typer.echo(json.dumps(list(map(_as_json, found)), ensure_ascii=False))
    else:
        _render(found, terminal.out())


async def _list(stub: "Stub") -> inference_pb2.ListModelsResponse:
    return await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=10)


def _as_json(model: inference_pb2.Model) -> dict[str, Any]:  # JSON has no better type
    told = json_format.MessageToDict(model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    # The JSON of protobuf has large integers as texts.
    told["generated_tokens"] = model.generated_tokens
    for endpoint, each in zip(model.endpoints, told["endpoints"], strict=True):
        each |= {"state": _state(endpoint)[0].replace(" ", "_"), "generated_tokens": endpoint.generated_tokens}
    return told


def _render(found: Sequence[inference_pb2.Model], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    for column in _COLUMNS:
        right = column in {"running", "waiting", "tokens", "context"}
        table.add_column(justify="right" if right else "left", overflow="fold", no_wrap=column != "endpoints")
    table.add_row(*(Text(column, style="dim") for column in _COLUMNS))
    for model in found:
        table.add_row(
            Text(terminal.harmless(model.name), style="bold"),
            terminal.harmless(model.backend),
            f"{model.running:,}/{model.max_running:,}",
            f"{model.waiting:,}",
            f"{model.generated_tokens:,}",
            f"{model.context_window:,}" if model.context_window else "?",
            _endpoints(model.endpoints),
        )
    console.print(table, soft_wrap=False)


def _endpoints(endpoints: Sequence[inference_pb2.Endpoint]) -> Text:
    return Text("\n").join(map(_endpoint, endpoints)) if endpoints else Text("in the service", style="dim")


def _endpoint(endpoint: inference_pb2.Endpoint) -> Text:
    word, style = _state(endpoint)
    load = f" {endpoint.running:,} running" if endpoint.running else ""
    return Text.assemble(terminal.harmless(endpoint.address), " ", (word, style), load)


def _state(endpoint: inference_pb2.Endpoint) -> tuple[str, str]:
    return _STATES.get(endpoint.state, ("unknown", "dim"))
